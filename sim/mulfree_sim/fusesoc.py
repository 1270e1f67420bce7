"""A FuseSoC core description (CAPI2) of a generated unit."""

from pathlib import Path

import mulfree
from mulfree.files import write_text
from mulfree.spec import Spec


def write_core(spec: Spec, directory: Path, name: str, written: list[Path]) -> Path:
    """Write ``NAME.core`` that lists the generated files; return its path."""
    sources = [path.name for path in written if path.suffix == ".v"]
    rtl = [source for source in sources if not source.endswith("_tb.v")]
    bench = [source for source in sources if source.endswith("_tb.v")]
    vectors = [path.name for path in written if path.suffix == ".mem"]
    lines = [
        "CAPI=2:",
        f"name: mulfree:{spec.unit}:{name}:{mulfree.__version__}",
        f"description: {(type(spec).__doc__ or spec.unit).strip().splitlines()[0]}",
        "filesets:",
        "  rtl:",
        f"    files: [{', '.join(rtl)}]",
        "    file_type: verilogSource-2005",
    ]
    if bench:
        files = bench + [f"{v}: {{file_type: user, copyto: {v}}}" for v in vectors]
        lines += [
            "  tb:",
            "    files:",
            *(f"      - {file}" for file in files),
            "    file_type: verilogSource-2005",
        ]
    lines += ["targets:", "  default:", "    filesets: [rtl]", f"    toplevel: {name}"]
    if bench:
        lines += [
            "  sim:",
            "    default_tool: icarus",
            "    filesets: [rtl, tb]",
            f"    toplevel: {name}_tb",
        ]
    return write_text(directory / f"{name}.core", "\n".join(lines) + "\n")
