"""A self-checking Verilog testbench of any unit, for flows without Python.

The unit's cocotb bench runs, which holds every result against the golden model; the first cycles of
it are recorded port by port and played back by the testbench, which compares every output in every
cycle.
"""

import json
import tempfile
from pathlib import Path

from amaranth.lib import wiring

from mulfree.emit import component_verilog, is_clocked, ports
from mulfree.files import write_text
from mulfree.spec import Spec
from mulfree_sim import runner

#: Cycles recorded at the most.
CYCLES = 2000


def write_testbench(spec: Spec, directory: Path, name: str, seed: int) -> list[Path]:
    """Write ``NAME_tb.v`` and its vectors ``NAME_tb.mem``; return their paths.

    Raises
    ------
    SimulationError
        The unit has no clock, or its bench does not pass, so that there is nothing to record.
    """
    component = spec.component()
    text = component_verilog(component, name, spec.to_json())
    listed = port_list(component)
    if not is_clocked(text, name):
        raise runner.SimulationError(f"a testbench must have a clock to count, {name} has none")
    with tempfile.TemporaryDirectory(prefix="mulfree-") as scratch:
        record = Path(scratch) / "record"
        result = runner.run(
            text,
            name,
            f"mulfree_sim.benches.{spec.unit}",
            simulator="icarus" if runner.available("icarus") else "verilator",
            seed=seed,
            environment={
                "MULFREE_SPEC": spec.to_json(),
                "MULFREE_RECORD": str(record),
                "MULFREE_RECORD_CYCLES": str(CYCLES),
                "MULFREE_RECORD_PORTS": json.dumps(listed),
            },
        )
        if not result.passed:
            raise runner.SimulationError(f"the bench of {spec.unit} fails:\n{result.log[-2000:]}")
        vectors = record.read_text()
    return [
        write_text(directory / f"{name}_tb.v", _testbench(listed, name, vectors.count("\n"))),
        write_text(directory / f"{name}_tb.mem", vectors),
    ]


def port_list(component: wiring.Component) -> list[tuple[str, str, int]]:
    """Return (direction, name, width) of every port but the clock, reset first."""
    return [
        ("input", "rst", 1),
        *((p["direction"], p["name"], p["width"]) for p in ports(component) if p["width"]),
    ]


def _testbench(listed: list[tuple[str, str, int]], name: str, cycles: int) -> str:
    total = sum(width for _, _, width in listed)
    lines, at = [], 0
    for direction, port, width in listed:
        span = f"[{width - 1}:0] " if width > 1 else ""
        word = f"word[{at} +: {width}]"
        if direction == "input":
            lines.append(("declare", f"  wire {span}{port} = {word};"))
        else:
            lines.append(("declare", f"  wire {span}{port};"))
            lines.append(
                (
                    "check",
                    f"      if (({port} ^ {word}) != 0 || (^{port} === 1'bx && ^{word} !== 1'bx)) "
                    f'begin errors = errors + 1; $display("cycle %0d: '
                    f'{port} is %h, not %h", cycle, {port}, {word}); end',
                )
            )
        at += width
    connections = ",\n".join(f"    .{port}({port})" for _, port, _ in listed)
    body = "\n".join(text for kind, text in lines if kind == "declare")
    checks = "\n".join(text for kind, text in lines if kind == "check")
    return f"""// Self-checking testbench of {name}: plays {name}_tb.mem, compares every output.
// Run: iverilog -g2005 -o tb {name}.v {name}_tb.v && vvp tb
`timescale 1ns / 1ps
module {name}_tb;
  localparam CYCLES = {cycles};
  reg [{total - 1}:0] vectors [0:CYCLES-1];
  reg [{total - 1}:0] word;
  reg clk = 0;
  integer cycle, errors;
{body}
  {name} dut (
    .clk(clk),
{connections}
  );
  initial begin
    $readmemb("{name}_tb.mem", vectors);
    errors = 0;
    for (cycle = 0; cycle < CYCLES; cycle = cycle + 1) begin
      word = vectors[cycle];
      #5;
{checks}
      clk = 1;
      #5 clk = 0;
    end
    if (errors == 0) $display("PASS: %0d cycles", CYCLES);
    else $display("FAIL: %0d differences", errors);
    $finish;
  end
endmodule
"""
