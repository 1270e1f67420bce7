"""The stream rules, for every component with stream ports.

As Amaranth's documentation of streams has them: a transfer happens on an edge with valid and ready;
a producer that offers a payload keeps offering the same one until it is taken; and neither valid
nor payload may depend on ready without a clock edge between, so that a consumer may wait for valid.
"""

import re

from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out

from mulfree.emit import component_verilog, ports
from mulfree_sim.formal import Proof

#: Cells that end a path within one clock.
REGISTERS = "$dff,$dffe,$adff,$adffe,$sdff,$sdffe,$sdffce,$aldff,$aldffe,$dffsr,$dffsre"


def stream_rules(
    component: wiring.Component, name: str = "mulfree_proof", *, mode: str = "prove", depth: int = 4
) -> list[Proof]:
    """Return the proofs of the stream rules at every output stream of a component.

    The component is reset first; after that all of its inputs are free, but for its input streams,
    whose producers keep the same rules.

    Parameters
    ----------
    name
        Name of the module within the proof.
    mode, depth
        How far ``keeps`` is proved, as in `Proof`. Induction (``prove``) may need more depth than
        the longest path through the component's states, and fails without a counterexample where it
        is not enough.
    """
    text = component_verilog(component, name, "stream rules")
    listed = ports(component)
    outputs, inputs = [], []
    for member, entry in component.signature.members.items():
        if entry.is_signature and isinstance(entry.signature, stream.Signature):
            (outputs if entry.flow == Out else inputs).append(str(member))
    found = []
    if outputs:
        found.append(_keeps(text, name, listed, outputs, inputs, mode, depth))
    found += [_independent(text, name, out) for out in outputs]
    return found


def _keeps(
    text: str,
    name: str,
    listed: list[dict],
    outputs: list[str],
    inputs: list[str],
    mode: str,
    depth: int,
) -> Proof:
    """Return the proof that an offered payload is offered until it is taken."""
    lines, held, properties = [], [], []
    for port in listed:
        kind = "input" if port["direction"] == "input" else "output"
        lines.append(f"  {kind} [{port['width'] - 1}:0] {port['name']}")
    names = [port["name"] for port in listed]
    for streams, statement in ((inputs, "assume"), (outputs, "assert")):
        for s in streams:
            payload = [n for n in names if n.startswith(f"{s}__payload")]
            offered = f"{{{', '.join([f'{s}__valid', *payload])}}}"
            width = 1 + sum(p["width"] for p in listed if p["name"] in payload)
            held.append(
                f"  reg {s}_held = 0; reg [{width - 1}:0] {s}_offer;\n"
                f"  always @(posedge clk) begin\n"
                f"    {s}_held <= started && {s}__valid && !{s}__ready;\n"
                f"    {s}_offer <= {offered};\n  end"
            )
            properties.append(f"    if ({s}_held) {statement}({offered} == {s}_offer);")
    header = re.search(rf"module {name} ?\((.*?)\)", text, re.DOTALL)
    assert header is not None
    clocked = {"clk": "clk", "rst": "!started"} if "clk" in header[1].split(", ") else {}
    connections = ", ".join(
        f".{n}({v})" for n, v in [*zip(names, names, strict=True), *clocked.items()]
    )
    wrapper = (
        "module top(\n  input clk,\n" + ",\n".join(lines) + "\n);\n"
        "  reg started = 0;\n  always @(posedge clk) started <= 1;\n"
        + "\n".join(held)
        + f"\n  {name} dut({connections});\n  always @* begin\n"
        + "\n".join(properties)
        + "\n  end\nendmodule\n"
    )
    claim = f"{', '.join(outputs)}: an offered payload is kept until it is taken"
    return Proof("keeps", claim, {"dut.v": text, "top.sv": wrapper}, "top", mode, depth)


def _independent(text: str, name: str, out: str) -> Proof:
    """Return the proof that no path without a register leads from ready to valid or payload."""
    check = (
        f"select -assert-none w:{out}__valid w:{out}__payload* %u "
        f"%ci*:-{REGISTERS} w:{out}__ready %i"
    )
    claim = f"{out}: valid and payload do not depend on ready within a clock"
    return Proof(f"independent {out}", claim, {"dut.v": text}, name, "structure", check=check)
