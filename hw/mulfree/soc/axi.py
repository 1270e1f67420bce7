"""AXI4-Lite to the bus inside."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mulfree.soc.bus import ADDRESS_BITS, Bus

OKAY, SLVERR = 0, 2


class AxiLite(wiring.Signature):
    """AXI4-Lite from the master's side, 32 bits, byte addresses."""

    def __init__(self) -> None:
        super().__init__(
            {
                "awaddr": Out(ADDRESS_BITS + 2),
                "awprot": Out(3),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(32),
                "wstrb": Out(4),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(ADDRESS_BITS + 2),
                "arprot": Out(3),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(32),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class AxiLiteBridge(wiring.Component):
    """One access at a time; reads and writes that come together take turns."""

    axi: In(AxiLite())
    bus: Out(Bus())

    def elaborate(self, platform: object) -> Module:
        """Build the states; address and data are taken when the bus has answered."""
        m = Module()
        axi, bus = self.axi, self.bus
        write = axi.awvalid & axi.wvalid
        read_next = Signal()
        over = bus.ack | bus.err
        with m.FSM():
            with m.State("idle"):
                with m.If(write & ~(axi.arvalid & read_next)):
                    m.next = "write"
                with m.Elif(axi.arvalid):
                    m.next = "read"
            with m.State("write"):
                m.d.comb += [
                    bus.cyc.eq(1),
                    bus.stb.eq(1),
                    bus.we.eq(1),
                    bus.adr.eq(axi.awaddr >> 2),
                    bus.dat_w.eq(axi.wdata),
                    bus.sel.eq(axi.wstrb),
                    axi.awready.eq(over),
                    axi.wready.eq(over),
                ]
                with m.If(over):
                    m.d.sync += [axi.bresp.eq(Mux(bus.err, SLVERR, OKAY)), read_next.eq(1)]
                    m.d.sync += axi.bvalid.eq(1)
                    m.next = "response"
            with m.State("read"):
                m.d.comb += [
                    bus.cyc.eq(1),
                    bus.stb.eq(1),
                    bus.adr.eq(axi.araddr >> 2),
                    bus.sel.eq(0xF),
                    axi.arready.eq(over),
                ]
                with m.If(over):
                    m.d.sync += [
                        axi.rdata.eq(bus.dat_r),
                        axi.rresp.eq(Mux(bus.err, SLVERR, OKAY)),
                        axi.rvalid.eq(1),
                        read_next.eq(0),
                    ]
                    m.next = "response"
            taken = (axi.bvalid & axi.bready) | (axi.rvalid & axi.rready)
            with m.State("response"), m.If(taken):
                m.d.sync += [axi.bvalid.eq(0), axi.rvalid.eq(0)]
                m.next = "idle"
        return m
