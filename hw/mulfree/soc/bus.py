"""The bus inside: Wishbone B4 classic, 32 bits, word addresses; and the registers on it."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mulfree.soc.registers import register_map

ADDRESS_BITS = register_map().address_bits


class Bus(wiring.Signature):
    """Wishbone classic from the master's side: `stb` and `cyc` hold until `ack` or `err`."""

    def __init__(self) -> None:
        super().__init__(
            {
                "adr": Out(ADDRESS_BITS),
                "dat_w": Out(32),
                "dat_r": In(32),
                "sel": Out(4),
                "cyc": Out(1),
                "stb": Out(1),
                "we": Out(1),
                "ack": In(1),
                "err": In(1),
            }
        )


class BusStage(wiring.Component):
    """Registers between a bridge and what is far from it; an access takes two clocks longer.

    Members
    -------
    near : In(Bus())
        The bridge's side.
    far : Out(Bus())
        The same, where address and data come a clock ahead of `stb`, so that what they mean can be
        registered, too.
    """

    near: In(Bus())
    far: Out(Bus())

    def elaborate(self, platform: object) -> Module:
        """Let an access through when it has stood for two clocks."""
        m = Module()
        near, far = self.near, self.far
        asked, stands, opens = Signal(), Signal(), Signal()
        m.d.comb += [
            asked.eq(near.cyc & near.stb & ~far.ack & ~far.err),
            far.cyc.eq(near.cyc),
            far.stb.eq(opens & near.stb),
            near.ack.eq(far.ack),
            near.err.eq(far.err),
            near.dat_r.eq(far.dat_r),
        ]
        m.d.sync += [
            far.adr.eq(near.adr),
            far.we.eq(near.we),
            far.sel.eq(near.sel),
            far.dat_w.eq(near.dat_w),
            stands.eq(asked),
            opens.eq(asked & stands),
        ]
        return m


class RegisterFile(wiring.Component):
    """The registers of the map; a field that hardware has a part in is a port ``REGISTER__FIELD``.

    Members
    -------
    word : In
        Which register, as its word address.
    read : Out(32)
        Its present value, without delay.
    known : Out(1)
        There is a register at `word`.
    write, data : In
        Write the register on this edge; whole words only.
    fields : In for wires and events (set on this edge), Out for what software holds, pulses and
    events
    """

    def __init__(self) -> None:
        self.map = register_map()
        last = max(r.offset // 4 for r in self.map.registers.values())
        ports: dict = {
            "word": In(last.bit_length()),
            "read": Out(32),
            "known": Out(1),
            "write": In(1),
            "data": In(32),
        }
        for register, field in self.map.fields():
            name = f"{register.name}__{field.name}"
            match field.source:
                case "wire":
                    ports[name] = In(field.width)
                case "held" | "pulse":
                    ports[name] = Out(field.width)
                case "event":
                    ports[f"{name}__set"] = In(1)
                    ports[name] = Out(1)
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        """Build storage and the read multiplexer."""
        m = Module()
        with m.Switch(self.word):
            for register in self.map.registers.values():
                with m.Case(register.offset // 4):
                    m.d.comb += self.known.eq(1)
                    for field in register.fields.values():
                        place = slice(field.low, field.low + field.width)
                        name = f"{register.name}__{field.name}"
                        if field.source == "storage":
                            value = Signal(field.width, name=name, init=field.reset)
                        elif field.source == "constant":
                            value = field.reset
                        else:
                            value = getattr(self, name)
                        if "r" in field.access:
                            m.d.comb += self.read[place].eq(value)
                        if field.source in ("held", "storage"):
                            with m.If(self.write):
                                m.d.sync += value.eq(self.data[place])
                        if field.source == "pulse":
                            m.d.comb += value.eq(Mux(self.write, self.data[place], 0))
                        if field.source == "event":
                            with m.If(self.write & self.data[field.low]):
                                m.d.sync += value.eq(0)
        # After the switch: an event on the edge that clears the former one is not lost.
        for register, field in self.map.fields():
            if field.source == "event":
                name = f"{register.name}__{field.name}"
                with m.If(getattr(self, f"{name}__set")):
                    m.d.sync += getattr(self, name).eq(1)
        return m
