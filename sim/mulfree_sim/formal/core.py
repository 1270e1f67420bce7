"""What is proved of every matrix-vector core, on the Verilog that is handed out.

`formal.UNIT` of each exact core takes its proofs from here.
"""

from amaranth.sim import Simulator

from mulfree.emit import module_name, to_verilog
from mulfree.formats import PowerOfTwo
from mulfree.units.core import CoreSpec
from mulfree_sim.formal import Proof


def proofs(
    spec: CoreSpec, dropped_bits: int = 0, added: int = 0, ahead: bool = False
) -> list[Proof]:
    """Return the proofs of one core: its results, its enable, and its hand-over of tiles.

    An approximate core takes every activation with its lowest `dropped_bits` cleared and `added`
    to it. `ahead` is as in `loading`.
    """
    found = [product(spec, dropped_bits, added)]
    if spec.latency:
        found.append(hold(spec))
    if spec.loadable:
        found.append(loading(spec, ahead))
    return found


def load_bits(spec: CoreSpec) -> int:
    """Return the width of the load stream's payload."""
    return spec.weight_shape.width * spec.load_weights


def load_edges(spec: CoreSpec) -> int:
    """Return the clock edges from reset to a tile in use, when every weight is offered at once."""
    if not spec.loadable:
        return 0
    dut = spec.component()
    edges = 0

    async def bench(ctx) -> None:
        nonlocal edges
        ctx.set(dut.weight.valid, 1)
        while not ctx.get(dut.loaded):
            await ctx.tick()
            edges += 1

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return edges


def product(spec: CoreSpec, dropped_bits: int = 0, added: int = 0) -> Proof:
    """Results equal plain integer arithmetic for every tile and every vector.

    The tile, any, is loaded from reset on. Then one vector, any, is given; whatever vectors come
    before and after it, and with up to `STALLS` edges without an enable on the way, its result is
    ``Σ w · a`` once the pipeline has advanced `latency` times.
    """
    assert spec.latency is not None
    first = load_edges(spec) + 1  # edge 0 resets
    words, weight = spec.load_beats, load_bits(spec)
    checks = [
        f"assert(result[{o * spec.dot_bits} +: {spec.dot_bits}] == expected_{o});"
        for o in range(spec.outputs)
    ]
    text = f"""
module top(input clk);
  (* anyconst *) reg [{words * weight - 1}:0] tile;
  (* anyconst *) reg [{spec.act_bits * spec.lanes - 1}:0] vector;
  reg [15:0] edges = 0, sent = 0;
  wire [{spec.act_bits * spec.lanes - 1}:0] act = vector;
  always @(posedge clk) begin
    edges <= edges + 1;
    if (valid && ready) sent <= sent + 1;
  end
  wire valid = edges != 0 && sent != {words};
  {instance(spec, "edges == 0", "1'b1", f"tile[sent * {weight} +: {weight}]", "valid", "1'b0")}
{expected(spec, dropped_bits, added)}
  always @* if (edges == {first + spec.latency}) begin
    assert(loaded);
    {" ".join(checks)}
  end
endmodule
"""
    claim = (
        f"{spec.outputs} × Σ of {spec.lanes} products equals integer arithmetic for every "
        f"{coding(spec.act_signed)} {spec.act_bits}-bit activation"
        + (
            f" and every {spec.weight_shape.width}-bit weight that is loaded"
            if spec.loadable
            else ""
        )
        + (f", its low {dropped_bits} bits taken as {added}" if dropped_bits else "")
    )
    return Proof("product", claim, _files(spec, text), "top", "bmc", first + spec.latency + 1)


def hold(spec: CoreSpec) -> Proof:
    """Results stay as they are on an edge without enable, whatever else happens, for all time."""
    text = f"""
module top(input clk, input rst, input en, input valid, input retire,
           input [{spec.act_bits * spec.lanes - 1}:0] act,
           input [{load_bits(spec) - 1}:0] payload);
  reg held = 0;
  reg [{spec.dot_bits * spec.outputs - 1}:0] before;
  always @(posedge clk) begin
    held <= !en && !rst;
    before <= result;
  end
  {instance(spec, "rst", "en", "payload", "valid", "retire")}
  always @* if (held) assert(result == before);
endmodule
"""
    claim = "no result changes on an edge without enable"
    return Proof("hold", claim, _files(spec, text), "top", "prove", 2)


def loading(spec: CoreSpec, ahead: bool = False) -> Proof:
    """A tile is in use only after all of its weights were accepted, and each retirement ends one.

    Weights come, and tiles are retired while in use, at any time. With `ahead` the core has room
    for the weights of one more tile than for tiles.
    """
    words = spec.load_beats
    text = f"""
module top(input clk, input en, input valid, input want,
           input [{spec.act_bits * spec.lanes - 1}:0] act,
           input [{load_bits(spec) - 1}:0] payload);
  reg started = 0;
  reg [15:0] sent = 0, retired = 0;
  wire retire = want && loaded;
  always @(posedge clk) begin
    started <= 1;
    if (started && valid && ready) sent <= sent + 1;
    if (started && retire) retired <= retired + 1;
  end
  {instance(spec, "!started", "en", "payload", "valid", "retire")}
  always @* if (started) begin
    if (loaded) assert(sent >= (retired + 1) * {words});
    assert(sent <= (retired + {1 + spec.double_buffer + ahead}) * {words});
  end
endmodule
"""
    claim = "a tile is in use only when whole, and no weight is accepted beyond the buffers"
    return Proof("loading", claim, _files(spec, text), "top", "bmc", 2 * load_edges(spec) + 5)


def coding(signed: bool) -> str:
    """Return the word for a coding in a claim."""
    return "signed" if signed else "unsigned"


def _files(spec: CoreSpec, text: str) -> dict[str, str]:
    return {"dut.v": to_verilog(spec), "top.sv": text}


def instance(spec: CoreSpec, rst: str, en: str, payload: str, valid: str, retire: str) -> str:
    """Return the core as an instance, its outputs declared before."""
    ports = {"clk": "clk", "rst": rst, "en": en, "act": "act", "result": "result"}
    wires = f"wire [{spec.dot_bits * spec.outputs - 1}:0] result; wire ready, loaded;"
    if spec.loadable:
        ports |= {
            "weight__payload": payload,
            "weight__valid": valid,
            "weight__ready": "ready",
            "retire": retire,
            "loaded": "loaded",
        }
    else:
        wires += " assign ready = 0; assign loaded = 1;"
    connections = ", ".join(f".{port}({net})" for port, net in ports.items())
    return f"{wires}\n  {module_name(spec)} dut({connections});"


def expected(spec: CoreSpec, dropped_bits: int, added: int) -> str:
    """Return the results as Verilog's own signed arithmetic defines them."""
    lines = []
    weight = spec.weight_shape.width
    value_bits = max(abs(limit) for limit in spec.weight_range).bit_length() + 1
    for lane in range(spec.lanes):
        sign = f"vector[{(lane + 1) * spec.act_bits - 1}]" if spec.act_signed else "1'b0"
        bits = f"vector[{lane * spec.act_bits} +: {spec.act_bits}]"
        wide = f"wire signed [{spec.act_bits}:0]"
        lines.append(f"  {wide} whole_{lane} = {{{sign}, {bits}}};")
        kept = f"((whole_{lane} >>> {dropped_bits}) <<< {dropped_bits}) + {added}"
        lines.append(f"  {wide} a_{lane} = {kept};")
    for o in range(spec.outputs):
        terms = []
        for lane in range(spec.lanes):
            if spec.matrix is None:
                place = (lane * spec.outputs + o) * weight
                code = f"tile[{place} +: {weight}]"
            else:
                code = f"{weight}'d{spec.weight_format.encode(spec.matrix[o][lane])}"
            name = f"w_{o}_{lane}"
            lines.append(f"  wire [{weight - 1}:0] {name}_code = {code};")
            value = _value(spec, f"{name}_code")
            lines.append(f"  wire signed [{value_bits - 1}:0] {name} = {value};")
            terms.append(f"{name} * a_{lane}")
        lines.append(f"  wire signed [{spec.dot_bits - 1}:0] expected_{o} = {' + '.join(terms)};")
    return "\n".join(lines)


def _value(spec: CoreSpec, code: str) -> str:
    """Return what a weight's code stands for as a Verilog expression."""
    if not isinstance(spec.weight_format, PowerOfTwo):
        return f"$signed({code})"
    bits = spec.weight_format.bits
    terms = []
    for at in range(0, spec.weight_format.code_bits, bits):
        field = f"{code}[{at} +: {bits - 1}]"
        power = f"({field} == 0 ? 0 : 1 <<< ({field} - 1))"
        terms.append(f"({code}[{at + bits - 1}] ? -{power} : {power})")
    return " + ".join(terms)
