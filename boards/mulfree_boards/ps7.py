"""A Zynq-7000's processing system around a system, without Vivado's blocks.

The processors' general-purpose port speaks AXI3 (Arm IHI 0022D): bursts of up to 16 beats with an
identification, which a bridge turns into single accesses of AXI4-Lite. Names: AMD UG953, PS7.
"""

from typing import Any

from amaranth.hdl import (
    C,
    Cat,
    ClockDomain,
    ClockSignal,
    Elaboratable,
    Instance,
    Module,
    Mux,
    Signal,
)
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In, Out

from mulfree.soc.axi import AxiLite
from mulfree.soc.system import SystemSpec

_ADDRESS = {"addr": Out(32), "id": Out(12), "len": Out(8), "size": Out(3), "burst": Out(2)}
#: Wires that AXI3 has of those whose number AXI4 has raised.
_FEWER = {"len": 4, "size": 2}
INCREMENT, WRAP = 1, 2


class Axi3(wiring.Signature):
    """What is used of AXI3, from the master's side: 32 bits, byte addresses.

    Lengths and sizes have AXI4's widths, so that its masters fit too.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                **{f"{way}{name}": port for way in ("aw", "ar") for name, port in _ADDRESS.items()},
                "awvalid": Out(1), "awready": In(1), "arvalid": Out(1), "arready": In(1),
                "wdata": Out(32), "wstrb": Out(4), "wlast": Out(1),
                "wvalid": Out(1), "wready": In(1),
                "bid": In(12), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
                "rdata": In(32), "rid": In(12), "rresp": In(2), "rlast": In(1),
                "rvalid": In(1), "rready": Out(1),
            }
        )  # fmt: skip


class Axi3Bridge(wiring.Component):
    """AXI3 to AXI4-Lite: one burst at a time, one beat after the other.

    A write's answer is an error when one of its beats' is. Reads and writes that come together take
    turns.
    """

    axi: In(Axi3())
    lite: Out(AxiLite())

    port_help = {
        **{f"axi__{name}": "AXI3 slave" for name in Axi3().members},
        **{f"lite__{name}": "AXI4-Lite master" for name in AxiLite().members},
    }

    def elaborate(self, platform: object) -> Module:
        """Build the states; what is accepted of a burst is kept until its end."""
        m = Module()
        axi, lite = self.axi, self.lite
        address, mask = Signal(32), Signal(32)
        step, name, left, answer = Signal(8), Signal(12), Signal(8), Signal(2)
        address_taken, data_taken, read_next = Signal(), Signal(), Signal()

        def accept(way: str) -> None:
            of = {key: getattr(axi, f"{way}{key}") for key in _ADDRESS}
            moving = (of["burst"] == INCREMENT) | (of["burst"] == WRAP)
            wrapped = ((of["len"] + 1) << of["size"]) - 1
            m.d.sync += [
                address.eq(of["addr"]),
                name.eq(of["id"]),
                left.eq(of["len"]),
                step.eq(Mux(moving, 1 << of["size"], 0)),
                # A burst that wraps stays among the bytes that it covers.
                mask.eq(Mux(of["burst"] == WRAP, wrapped, ~0)),
                answer.eq(0),
                read_next.eq(way == "aw"),
            ]

        following = (address & ~mask) | ((address + step) & mask)
        m.d.comb += [
            lite.awaddr.eq(address),
            lite.araddr.eq(address),
            lite.wdata.eq(axi.wdata),
            lite.wstrb.eq(axi.wstrb),
            axi.bid.eq(name),
            axi.bresp.eq(answer),
            axi.rid.eq(name),
            axi.rdata.eq(lite.rdata),
            axi.rresp.eq(lite.rresp),
            axi.rlast.eq(left == 0),
        ]
        with m.FSM():
            with m.State("idle"):
                with m.If(axi.awvalid & ~(axi.arvalid & read_next)):
                    m.d.comb += axi.awready.eq(1)
                    accept("aw")
                    m.next = "write"
                with m.Elif(axi.arvalid):
                    m.d.comb += axi.arready.eq(1)
                    accept("ar")
                    m.next = "read"
            with m.State("write"):
                m.d.comb += [
                    lite.awvalid.eq(axi.wvalid & ~address_taken),
                    lite.wvalid.eq(axi.wvalid & ~data_taken),
                    lite.bready.eq(1),
                    axi.wready.eq(lite.bvalid),
                ]
                with m.If(lite.awvalid & lite.awready):
                    m.d.sync += address_taken.eq(1)
                with m.If(lite.wvalid & lite.wready):
                    m.d.sync += data_taken.eq(1)
                with m.If(lite.bvalid):
                    m.d.sync += [
                        address_taken.eq(0),
                        data_taken.eq(0),
                        address.eq(following),
                        answer.eq(answer | lite.bresp),
                    ]
                    with m.If(axi.wlast):
                        m.next = "answer"
            with m.State("answer"):
                m.d.comb += axi.bvalid.eq(1)
                with m.If(axi.bready):
                    m.next = "idle"
            with m.State("read"):
                m.d.comb += [
                    lite.arvalid.eq(~address_taken),
                    lite.rready.eq(axi.rready),
                    axi.rvalid.eq(lite.rvalid),
                ]
                with m.If(lite.arvalid & lite.arready):
                    m.d.sync += address_taken.eq(1)
                with m.If(lite.rvalid & axi.rready):
                    m.d.sync += [address_taken.eq(0), address.eq(following), left.eq(left - 1)]
                    with m.If(left == 0):
                        m.next = "idle"
        return m


class Ps7Top(Elaboratable):
    """A system on the first general-purpose port, clocked by the processing system's first clock.

    It has no pins of its own. The processors set the clock's frequency before they use the system.
    """

    def __init__(self, spec: SystemSpec) -> None:
        self._spec = spec

    def elaborate(self, platform: Any) -> Module:
        """Connect processing system, bridge and system."""
        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.bridge = bridge = Axi3Bridge()
        m.submodules.soc = soc = self._spec.component()
        axi = bridge.axi
        clocks, resets = Signal(4), Signal(4)
        ports: dict[str, Any] = {
            f"{'o' if member.flow == Out else 'i'}_MAXIGP0{name.upper()}": getattr(axi, name)[
                : _FEWER.get(name[2:])
            ]
            for name, member in Axi3().members.items()
        }
        m.submodules.ps = Instance(
            "PS7", **ports, i_MAXIGP0ACLK=ClockSignal(), o_FCLKCLK=clocks, o_FCLKRESETN=resets,
            i_IRQF2P=Cat(soc.interrupt, C(0, 19)),
        )  # fmt: skip
        m.submodules.buffer = Instance("BUFG", i_I=clocks[0], o_O=ClockSignal())
        m.submodules.reset = ResetSynchronizer(~resets[0])
        for name, member in AxiLite().members.items():
            outside, inside = getattr(bridge.lite, name), getattr(soc, f"s_axi_{name}")
            to, of = (inside, outside) if member.flow == Out else (outside, inside)
            m.d.comb += to.eq(of)
        return m
