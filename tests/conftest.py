"""What every test room shares."""

import os
import shutil
import signal
from pathlib import Path

import hypothesis
import pytest

# A failing example is printed with the means to repeat it; time limits are the runner's business.
hypothesis.settings.register_profile("default", deadline=None, print_blob=True)
hypothesis.settings.load_profile("default")

# A shell has its background jobs ignore interrupts, and so would what the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def iverilog() -> str:
    """The second simulator: optional for a user, required in CI."""
    found = shutil.which("iverilog")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("iverilog must be installed in CI")
        pytest.skip("iverilog is not installed")
    return found


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of test data that is not part of the project."""
    folder = Path(os.environ.get("MULFREE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set MULFREE_DATA")
    return folder
