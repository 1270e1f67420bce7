"""What is proved of tables in memories: what the generator writes, and cores around ideal tables.

The load of a table takes thousands of clocks, too many to unroll; so the proof is put together from
parts that meet at the generator's ports and at the memories' ports. docs/proofs.md says how.
"""

import dataclasses
import re
from dataclasses import dataclass

from mulfree.emit import module_name, to_verilog
from mulfree.units.lutna import LutNASpec
from mulfree_sim.formal import Proof, ProofError, core

GENERATOR = "__generator"


@dataclass(frozen=True)
class Memory:
    """A memory as it stands in the Verilog: its size and what its ports are connected to."""

    name: str
    width: int
    depth: int
    enable: str
    write_address: str
    data: str
    read_address: str

    @property
    def place(self) -> tuple[int, int]:
        """Lane group and digit place that the table is for."""
        group, place = self.name.split("_")[1:]
        return int(group), int(place)


def without_memories(text: str) -> tuple[str, list[Memory]]:
    """Return the Verilog with each memory replaced by an instance of a module ``ideal_NAME``.

    Its ports are those of a memory with a combinational read; a register behind the read stays
    where it is.

    Raises
    ------
    ProofError
        A memory is written or read in a way not known here.
    """
    found = []
    for width, name, depth in re.findall(r"^  reg \[(\d+):0\] (\w+) \[(\d+):0\];$", text, re.M):
        text = re.sub(
            rf"^  reg \[\d+:0\] {name} \[\d+:0\];\n  initial begin\n(?:    {name}\[.*;\n)+  end\n",
            "",
            text,
            flags=re.M,
        )
        write = re.compile(
            rf"^  always @\(posedge clk\) begin\n    if \((.*)\)\n      {name}\[(.*)\] <= (.*);\n"
            r"  end\n",
            re.M,
        )
        ports = write.findall(text)
        text = write.sub("", text)
        reads = re.findall(rf"= {name}\[(.*)\];$", text, re.M)
        if len(ports) != 1 or len(reads) != 1:
            raise ProofError(f"the memory {name} must have one write and one read")
        memory = Memory(name, int(width) + 1, int(depth) + 1, *ports[0], reads[0])
        instance = (
            f"  wire [{width}:0] {name}_read;\n"
            f"  ideal_{name} {name}(.clk(clk), .enable({memory.enable}), "
            f".write_address({memory.write_address}), .data({memory.data}), "
            f".read_address({memory.read_address}), .read({name}_read));\n"
        )
        text = text.replace(f"= {name}[{reads[0]}];", f"= {name}_read;")
        # Behind every declaration of the module that it stands in.
        at = text.index(f"{name}_read;")
        at = text.index("endmodule", at)
        text = text[:at] + instance + text[at:]
        found.append(memory)
    return text, found


def without_generator(text: str, name: str) -> str:
    """Return the Verilog without the table generator's module; the instance stays."""
    cut, count = re.subn(rf"^module {name}{GENERATOR} .*?^endmodule\n", "", text, flags=re.M | re.S)
    if count != 1:
        raise ProofError("the table generator must be one module")
    return cut


def ideal_word(spec: LutNASpec, address: str, tile: str, top: str, entry_bits: int) -> str:
    """Return Verilog that declares ``ideal``: Σ W·digit of every output, as integers define it.

    Parameters
    ----------
    address
        Expression of the table's address.
    tile
        Net with the weights of the table's lanes, in the order in which they are loaded.
    top
        Expression: the digits are signed.
    """
    lines = [f"  wire [{spec.outputs * entry_bits - 1}:0] ideal;"]
    odd = spec.storage == "odd"
    for i in range(spec.table_lanes):
        bits = [f"{address}[{b * spec.table_lanes + i}]" for b in range(spec.digit_bits - odd)]
        code = ", ".join([*reversed(bits), *(["1'b1"] if odd else [])])
        lines.append(
            f"  wire signed [{spec.digit_bits}:0] digit_{i} = {{({top}) && {bits[-1]}, {code}}};"
        )
    for o in range(spec.outputs):
        for i in range(spec.table_lanes):
            at = (i * spec.outputs + o) * spec.weight_bits
            lines.append(
                f"  wire signed [{spec.weight_bits - 1}:0] weight_{i}_{o} = "
                f"{tile}[{at} +: {spec.weight_bits}];"
            )
        total = " + ".join(f"weight_{i}_{o} * digit_{i}" for i in range(spec.table_lanes))
        lines.append(f"  wire signed [{entry_bits - 1}:0] ideal_{o} = {total};")
        lines.append(f"  assign ideal[{o * entry_bits} +: {entry_bits}] = ideal_{o};")
    return "\n".join(lines)


class Parts:
    """The Verilog of a core with tables in memories, its memories and its generator taken out."""

    def __init__(self, spec: LutNASpec) -> None:
        self.spec = spec
        self.name = module_name(spec)
        self.whole = to_verilog(spec)
        cut, self.memories = without_memories(self.whole)
        self.frame = without_generator(cut, self.name)
        self.entry_bits = self.memories[0].width // spec.outputs
        self.address_bits = spec.table_lanes * (spec.digit_bits - (spec.storage == "odd"))
        # The order of the generator's passes: tables of plain digits first, then the signed top.
        signed_top = spec.act_signed and spec.digit_bits > 1
        self.passes = [0, 1] if signed_top and spec.act_digits > 1 else [int(signed_top)]
        self.words = spec.outputs * spec.lanes

    def is_top(self, place: int) -> bool:
        """Whether the digits of a place are signed in its table."""
        spec = self.spec
        return spec.act_signed and spec.digit_bits > 1 and place == spec.act_digits - 1

    def table(self, memory: Memory, body: str) -> str:
        """Return the module that takes the place of a memory."""
        address = memory.depth.bit_length() - 1
        return (
            f"module ideal_{memory.name}(input clk, input enable, "
            f"input [{address - 1}:0] write_address, input [{memory.width - 1}:0] data,\n"
            f"    input [{address - 1}:0] read_address, output [{memory.width - 1}:0] read);\n"
            f"{body}\nendmodule\n"
        )

    def generator(self, body: str) -> str:
        """Return the module that takes the place of the generator, with ``accept`` declared."""
        spec = self.spec
        return (
            f"module {self.name}{GENERATOR}(input clk, input rst, input hold, "
            f"input weight__valid, input [{spec.weight_bits - 1}:0] weight__payload,\n"
            f"    output ready, output weight__ready, output [{self.address_bits - 1}:0] address,\n"
            f"    output [{spec.outputs * self.entry_bits - 1}:0] word,\n"
            f"    output [{spec.groups - 1}:0] write, output signed_top, output filled);\n"
            f"  assign weight__ready = ready;\n  wire accept = ready && weight__valid && !rst;\n"
            f"{body}\nendmodule\n"
        )


def generator(parts: Parts) -> Proof:
    """The generator writes what the tables are to hold, for every stream of weights, for all time.

    The invariants speak of its registers: the ring is the tile turned by as many places as the
    counters say, and a partial sum is Σ W·(the leading bits of a digit that were visited).
    """
    spec, entry = parts.spec, parts.entry_bits
    outputs, lanes, wide = spec.outputs, spec.table_lanes, spec.weight_bits
    n = spec.generators
    turns = outputs // n
    places, whole = turns * lanes, outputs * lanes
    size, passes = 1 << parts.address_bits, len(parts.passes)
    total = spec.groups * passes * size
    signed_top = f"{parts.passes[0]}" if passes == 1 else "pass != 0"

    lines, sums = [], []

    def internal(name: str, bits: int, exists: bool = True, is_signed: bool = False) -> None:
        sign = "signed " if is_signed else ""
        lines.append(
            f"  (* hierconn *) wire {sign}[{bits - 1}:0] \\dut.{name} ;\n"
            f"  wire {sign}[{bits - 1}:0] {name} = \\dut.{name} ;"
            if exists
            else f"  wire [{bits - 1}:0] {name} = 0;"
        )

    for name, length in (
        ("turn", turns), ("lane", lanes), ("visit", spec.digit_bits), ("place", size),
        ("pass", passes), ("group", spec.groups), ("gather", n),
    ):  # fmt: skip
        internal(name, max((length - 1).bit_length(), 1), length > 1)
    internal("making", 1)
    internal("ring", places * n * wide)
    if n > 1:
        internal("earlier", (n - 1) * wide)
    for index in range(n):
        for turn in range(turns):
            internal(f"partial_{index}_{turn}", entry, is_signed=True)

    held = []
    for name, length in (("turn", turns), ("lane", lanes), ("visit", spec.digit_bits),
                         ("pass", passes), ("group", spec.groups), ("gather", n)):  # fmt: skip
        held.append(f"assert({name} < {length});")
    # Where the ring stands, and what it and the gathering registers hold by now.
    held += [
        f"if (making) assert(taken == {whole} && gather == 0);",
        f"if (!making) assert((taken == {whole} ? 0 : taken) == at * {n} + gather);",
        "if (!making) assert(visit == 0 && place == 0 && pass == 0);",
        f"if (write != 0) assert(taken == {whole});",
    ]
    for j in range(places):
        slot = f"[{j * n * wide} +: {n * wide}]"
        held.append(f"if (making || {j} + at >= {places}) assert(ring{slot} == turned{slot});")
    for g in range(1, n):
        kept = " && ".join(
            f"earlier[{(n - 1 - g + i) * wide} +: {wide}] == tile[(at * {n} + {i}) * {wide} +: "
            f"{wide}]"
            for i in range(g)
        )
        held.append(f"if (gather == {g}) assert({kept});")
    # Partial sums: lanes before the present one have had this visit's bit.
    for index in range(n):
        for j in range(turns):
            name = f"sum_{index}_{j}"
            sums.append(
                f"  wire [7:0] {name}_turn = turn + {j} >= {turns} ? turn + {j} - {turns} : "
                f"turn + {j};\n"
                f"  wire [7:0] {name}_lane = lane + (turn + {j} >= {turns});"
            )
            terms = []
            for i in range(lanes):
                sums.append(
                    f"  wire signed [{wide - 1}:0] {name}_w{i} = "
                    f"tile[({i * outputs} + {name}_turn * {n} + {index}) * {wide} +: {wide}];\n"
                    f"  wire signed [{spec.digit_bits + 1}:0] {name}_d{i} = "
                    f"{i} < {name}_lane ? after_{i} : {name}_lane > 0 ? before_{i} <<< 1 : "
                    f"before_{i};"
                )
                terms.append(f"{name}_w{i} * {name}_d{i}")
            sums.append(
                f"  wire {name}_none = !making || visit == {spec.digit_bits - 1} && "
                f"{name}_lane == {lanes};\n"
                f"  wire signed [{entry - 1}:0] {name}_due = {' + '.join(terms)};\n"
                f"  wire signed [{entry - 1}:0] {name} = {name}_none ? 0 : {name}_due;"
            )
            held.append(f"assert(partial_{index}_{j} == {name});")
    # Finished entries of this word so far.
    for t in range(1, turns):
        high = f"[{(turns - t) * n * entry} +: {t * n * entry}]"
        held.append(
            f"if (making && visit == {spec.digit_bits - 1} && lane == {lanes - 1} && turn == {t}) "
            f"assert(word{high} == here[0 +: {t * n * entry}]);"
        )
    # The walk over the addresses, and the claim itself.
    held += [
        f"assert((write != 0 ? (written == {total - 1} ? 0 : written + 1) : written) == "
        f"(group * {passes} + pass) * {size} + place);",
        f"assert(filled ? accepted == {parts.words} && !making && group == 0 && write != 0 : "
        f"accepted == group * {whole} + (making ? {whole} : at * {n} + gather));",
        f"if (ready) assert(!hold && !filled && !making && accepted < {parts.words});",
        "if (write != 0) assert(accepted != 0);",
        f"if (write != 0) assert(address == written % {size} && "
        f"write == 1 << (written / {passes * size}) && word == ideal);",
        f"assert(filled == (write != 0 && written == {total - 1}));",
    ]
    if passes > 1:
        held.append(f"if (write != 0) assert(signed_top == (written / {size}) % 2);")
    header = re.search(rf"^module {parts.name}{GENERATOR} \((.*?)\)", parts.whole, re.M | re.S)
    if header is None:
        raise ProofError("the table generator must be a module of its own")
    nets = {"rst": "!started", "weight__ready": "ready"}
    connections = ", ".join(f".{p}({nets.get(p, p)})" for p in header[1].split(", "))
    leading = []
    for i in range(lanes):
        for name, visits in (("before", "visit"), ("after", "visit + 1")):
            leading.append(
                f"  wire signed [{spec.digit_bits + 1}:0] {name}_{i} = "
                + ("visit == 0 ? 0 : " if name == "before" else "")
                + f"place_digit_{i} >>> ({spec.digit_bits} - ({visits}));"
            )
    at_place = ideal_word(spec, "place", "tile", signed_top, entry)
    at_place = re.sub(r"\b(ideal|digit|weight)(_\d)", r"place_\1\2", at_place)
    at_place = re.sub(r"\bideal\b", "here", at_place)
    top = parts.passes[0] if passes == 1 else "signed_top"
    newline = "\n"
    text = f"""
module top(input clk, input hold, input weight__valid, input [{wide - 1}:0] weight__payload);
  reg started = 0;
  always @(posedge clk) started <= 1;
  wire ready, filled, signed_top;
  wire [{parts.address_bits - 1}:0] address;
  wire [{spec.groups - 1}:0] write;
  wire [{outputs * entry - 1}:0] word;
  {parts.name}{GENERATOR} dut({connections});
  // What the ports have seen: weights of this group, of this tile, words of this tile.
  reg [{whole * wide - 1}:0] tile = 0;
  reg [15:0] taken = 0, accepted = 0;
  reg [23:0] written = 0;
  wire accept = started && ready && weight__valid;
  always @(posedge clk) begin
    if (accept) begin
      taken <= taken == {whole} ? 1 : taken + 1;
      tile[(taken == {whole} ? 0 : taken) * {wide} +: {wide}] <= weight__payload;
    end
    accepted <= filled ? 0 : accepted + accept;
    if (write != 0) written <= written == {total - 1} ? 0 : written + 1;
  end
{ideal_word(spec, "address", "tile", str(top), entry)}
  // The generator's own registers.
{newline.join(lines)}
  wire [15:0] at = lane * {turns} + turn;
  wire [{2 * whole * wide - 1}:0] turned = {{tile, tile}} >> (at * {n * wide});
{at_place}
{newline.join(leading)}
{newline.join(sums)}
  always @* if (started) begin
    {(newline + "    ").join(held)}
  end
endmodule
"""
    claim = (
        f"for every stream of weights, every address of every table is written once a tile, in "
        f"order, with Σ of {lanes} W·digit, and filled comes with the last"
    )
    return Proof("generator", claim, {"dut.v": parts.whole, "top.sv": text}, "top", "prove", 2)


def product(parts: Parts, dropped_bits: int, added: int) -> Proof:
    """Around tables that hold what they are to hold, results equal plain integer arithmetic.

    The generator's place takes one that writes the word at which every digit is 1 into each group,
    where a core with compensation catches it.
    """
    spec = parts.spec
    assert spec.latency is not None
    first = spec.groups + 4  # reset, words, filled, swapped
    weight, words = spec.weight_bits, parts.words
    ones = 0 if spec.storage == "odd" else (1 << spec.table_lanes) - 1
    per_group = spec.table_lanes * spec.outputs * weight
    ideals = []
    for memory in parts.memories:
        _, place = memory.place
        top = str(int(parts.is_top(place)))
        word = ideal_word(spec, "read_address", "tile", top, parts.entry_bits)
        body = f"  wire [{per_group - 1}:0] tile;\n{word}\n  assign read = ideal;"
        ideals.append(parts.table(memory, body))
    tiles = "\n".join(
        f"  (* hierconn *) wire [{per_group - 1}:0] \\dut.{name}.tile ;\n"
        f"  assign \\dut.{name}.tile = tile[{group * per_group} +: {per_group}];"
        for name, group in [(m.name, m.place[0]) for m in parts.memories]
    )
    catch = "\n".join(
        f"      {group}: due = tile[{group * per_group} +: {per_group}];"
        for group in range(spec.groups)
    )
    body = (
        f"  wire [{words * weight - 1}:0] tile;\n  reg [7:0] at = 0;\n"
        f"  always @(posedge clk) if (!rst && at <= {spec.groups}) at <= at + 1;\n"
        f"  reg [{per_group - 1}:0] due;\n  always @* begin due = 0; case (at)\n{catch}\n"
        "  endcase end\n"
        f"  assign address = {ones}, ready = 0, signed_top = {parts.passes[0]};\n"
        f"  assign write = at < {spec.groups} && !rst ? 1 << at : 0;\n"
        f"  assign filled = at == {spec.groups - 1} && !rst;\n"
        + ideal_word(spec, "address", "due", str(parts.passes[0]), parts.entry_bits)
        + "\n  assign word = ideal;"
    )
    checks = " ".join(
        f"assert(result[{o * spec.dot_bits} +: {spec.dot_bits}] == expected_{o});"
        for o in range(spec.outputs)
    )
    text = f"""
module top(input clk, input [{spec.act_bits * spec.lanes - 1}:0] other);
  (* anyconst *) reg [{words * weight - 1}:0] tile;
  (* anyconst *) reg [{spec.act_bits * spec.lanes - 1}:0] vector;
  reg [7:0] edges = 0;
  always @(posedge clk) edges <= edges + 1;
  wire [{spec.act_bits * spec.lanes - 1}:0] act = edges == {first} ? vector : other;
  {core.instance(spec, "edges == 0", "1'b1", "0", "1'b0", "1'b0")}
  (* hierconn *) wire [{words * weight - 1}:0] \\dut.generator.tile ;
  assign \\dut.generator.tile = tile;
{tiles}
{core.expected(spec, dropped_bits, added)}
  always @* if (edges == {first + spec.latency}) begin
    assert(loaded);
    {checks}
  end
endmodule
"""
    files = {"dut.v": parts.frame, "top.sv": "".join(ideals) + parts.generator(body) + text}
    claim = (
        f"where every table holds Σ W·digit, {spec.outputs} × Σ of {spec.lanes} products equals "
        f"integer arithmetic for every {core.coding(spec.act_signed)} {spec.act_bits}-bit "
        f"activation and every {weight}-bit weight"
        + (f", its low {dropped_bits} bits taken as {added}" if dropped_bits else "")
    )
    return Proof("product", claim, files, "top", "bmc", first + spec.latency + 1)


def hold(parts: Parts) -> Proof:
    """Results stay on an edge without enable, whatever tables and generator do, for all time."""
    spec = parts.spec
    free = core.hold(spec)
    body = """  (* anyseq *) reg any_ready, any_filled, any_top;
  assign ready = any_ready, filled = any_filled, signed_top = any_top;
""" + _any(parts)
    body += "  assign write = any_write;"
    files = {
        "dut.v": parts.frame,
        "top.sv": _free_tables(parts) + parts.generator(body) + free.files["top.sv"],
    }
    return dataclasses.replace(free, files=files)


def loading(parts: Parts) -> Proof:
    """Tiles are handed over whole and are not written while they are in use, for all time.

    The generator's place takes any that keeps the order of things that `generator` proves: no
    weight beyond the tile or while it is held back, writes only between the first weight and
    filled, filled only after the last weight.
    """
    spec, words = parts.spec, parts.words
    body = f"""  (* anyseq *) reg any_ready, any_filled, any_top;
  reg [15:0] accepted = 0;
  assign filled = any_filled && accepted == {words} && !rst, signed_top = any_top;
  assign ready = any_ready && !hold && !filled && accepted < {words};
  always @(posedge clk) accepted <= rst || filled ? 0 : accepted + accept;
{_any(parts)}  assign write = accepted != 0 && !rst ? any_write : 0;"""
    pending = spec.store != "block"
    nets = {
        "generator.accepted": 16, "generator.write": spec.groups, "generator.signed_top": 1,
        "generator.address": parts.address_bits, "generator.word": parts.memories[0].width,
        "handshake.loaded": 1,
    }  # fmt: skip
    nets |= {"handshake.waiting": 1} if spec.double_buffer else {}
    nets |= {"pending": 1} if pending else {}
    for memory in parts.memories:
        address = memory.depth.bit_length() - 1
        nets |= {
            f"{memory.name}.enable": 1,
            f"{memory.name}.write_address": address,
            f"{memory.name}.read_address": address,
            f"{memory.name}.data": memory.width,
        }
    # In use, but for the edges between the last activations and their look-up; and written.
    in_use = r"(\dut.handshake.loaded " + (r"&& !\dut.pending " if pending else "") + ")"
    full = in_use + (r" + \dut.handshake.waiting " if spec.double_buffer else "")
    written = r"\dut.handshake.waiting " if spec.double_buffer else r"\dut.handshake.loaded "
    held = [
        f"if (loaded) assert(ahead >= {words});",
        f"assert(ahead <= {words * (2 if spec.double_buffer else 1)});",
        rf"assert(ahead == {words} * ({full}) + \dut.generator.accepted );",
        rf"assert(\dut.generator.accepted <= {words});",
        rf"if (\dut.generator.accepted != 0) assert(!{written});",
        rf"if (\dut.generator.write != 0) assert(!{written});",
        *([r"if (\dut.pending ) assert(\dut.handshake.loaded );"] if pending else []),
    ]
    for memory in parts.memories:
        group, place = memory.place
        name = rf"\dut.{memory.name}"
        due = rf"\dut.generator.write [{group}]" if spec.groups > 1 else r"\dut.generator.write "
        if len(parts.passes) > 1:
            due += rf" && \dut.generator.signed_top == {int(parts.is_top(place))}"
        low = f"[{parts.address_bits - 1}:0]"
        held += [
            f"assert({name}.enable == ({due}));",
            rf"if ({name}.enable ) assert({name}.write_address {low} == \dut.generator.address );",
            rf"if ({name}.enable ) assert({name}.data == \dut.generator.word );",
        ]
        if spec.double_buffer:
            top = f"[{parts.address_bits}]"
            held.append(f"assert({name}.write_address {top} != {name}.read_address {top});")
    newline = "\n"
    wires = newline.join(
        rf"  (* hierconn *) wire [{bits - 1}:0] \dut.{name} ;" for name, bits in nets.items()
    )
    text = f"""
module top(input clk, input en, input valid, input want,
           input [{spec.act_bits * spec.lanes - 1}:0] act,
           input [{spec.weight_bits - 1}:0] payload);
  reg started = 0;
  reg [15:0] ahead = 0;  // weights accepted beyond those of tiles given back
  wire retire = want && loaded;
  always @(posedge clk) begin
    started <= 1;
    if (started) ahead <= ahead + (valid && ready) - (retire ? {words} : 0);
  end
  {core.instance(spec, "!started", "en", "payload", "valid", "retire")}
{wires}
  always @* if (started) begin
    {(newline + "    ").join(held)}
  end
endmodule
"""
    claim = (
        "a tile is in use only when whole, no weight is accepted beyond the buffers, each word "
        "goes to its table, and none is written while in use"
    )
    files = {"dut.v": parts.frame, "top.sv": _free_tables(parts) + parts.generator(body) + text}
    return Proof("loading", claim, files, "top", "prove", 2)


def _free_tables(parts: Parts) -> str:
    """Return tables that answer anything."""
    return "".join(
        parts.table(m, f"  (* anyseq *) reg [{m.width - 1}:0] any;\n  assign read = any;")
        for m in parts.memories
    )


def _any(parts: Parts) -> str:
    """Return the part of a free generator that decides what is written."""
    width = parts.memories[0].width
    return f"""  (* anyseq *) reg [{parts.address_bits - 1}:0] any_address;
  (* anyseq *) reg [{width - 1}:0] any_word;
  (* anyseq *) reg [{parts.spec.groups - 1}:0] any_write;
  assign address = any_address, word = any_word;
"""
