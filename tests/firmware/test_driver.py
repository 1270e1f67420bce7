"""The driver in C, over a mock of the bus and over the virtual board."""

import ctypes
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mulfree.soc.program import Program
from mulfree.soc.registers import c_header, register_map
from mulfree.soc.top import SocSpec
from mulfree.units.lutna import LutNASpec
from mulfree_firmware.build import FLAGS, MACHINES, SOURCES, WARNINGS, compile_c
from mulfree_firmware.client import Board
from mulfree_firmware.line import Line
from mulfree_models import digits
from mulfree_models.program import compile_network, digits_network
from mulfree_sim.golden import soc as golden
from mulfree_sim.programs import random_inputs, random_program

MAP = register_map()
MAJOR = MAP.version.fields["major"].reset
DRIVER = SOURCES / "driver"
STRICT = (
    "-std=c11", *WARNINGS, "-Wshadow", "-Wcast-align", "-Wstrict-prototypes",
    "-Wmissing-prototypes",
)  # fmt: skip


def run(*words) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def headers(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("headers")
    (folder / "mulfree_registers.h").write_text(c_header())
    return folder


@pytest.fixture(scope="session")
def compiler() -> list[str]:
    """The machine's own C compiler, or Zig's."""
    found = shutil.which("cc")
    return [found] if found else [sys.executable, "-m", "ziglang", "cc"]


# The interface, as ctypes sees it.

READ = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32)
)
WRITE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32)
WAIT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


class Bus(ctypes.Structure):
    _fields_ = [
        ("read32", READ), ("write32", WRITE), ("wait", WAIT), ("context", ctypes.c_void_p),
    ]  # fmt: skip


class Device(ctypes.Structure):
    _fields_ = [
        ("bus", Bus),
        *((name, ctypes.c_uint32) for name in (
            "version", "engine", "shape", "limits", "program_words", "data_words", "patience",
            "code",
        )),
    ]  # fmt: skip


class Opened(ctypes.Structure):
    _fields_ = [
        ("words", ctypes.POINTER(ctypes.c_uint32)),
        *((name, ctypes.c_uint32) for name in (
            "count", "crc", "engine", "shape", "limits", "data_words", "batch", "inputs",
            "outputs", "input_base", "input_stride", "output_base", "output_stride",
        )),
    ]  # fmt: skip


NAMES = (
    "ok", "bus", "identity", "version", "magic", "format", "length", "crc", "engine", "limits",
    "room", "busy", "load", "start", "timeout", "reported", "program_crc", "input_crc",
    "output_crc",
)  # fmt: skip


class Driver:
    """The compiled driver; results by name."""

    def __init__(self, path: Path):
        self.library = ctypes.CDLL(str(path))
        self.library.mulfree_text.restype = ctypes.c_char_p
        self.library.mulfree_code_text.restype = ctypes.c_char_p
        self.library.mulfree_crc.restype = ctypes.c_uint32

    def text(self, name: str) -> str:
        return self.library.mulfree_text(NAMES.index(name)).decode()


class Session:
    """A driver on a bus whose functions are Python's."""

    def __init__(self, driver: Driver, read, write, wait=lambda: 0):
        self.library, self.device, self.program = driver.library, Device(), Opened()

        def read32(_, offset, value):
            found = read(offset)
            if found is None:
                return -1
            value[0] = found
            return 0

        def write32(_, offset, value):
            return -1 if write(offset, value) is False else 0

        self.bus = Bus(READ(read32), WRITE(write32), WAIT(lambda _: wait()), None)

    def discover(self) -> str:
        return self._call("discover", ctypes.byref(self.bus))

    def open(self, words) -> str:
        self.words = np.ascontiguousarray(words, np.uint32)
        pointer = self.words.ctypes.data_as(ctypes.POINTER(ctypes.c_uint32))
        given = ctypes.byref(self.program), pointer, ctypes.c_size_t(len(words))
        return NAMES[self.library.mulfree_open(*given)]

    def check(self) -> str:
        return self._call("check", ctypes.byref(self.program))

    def load(self) -> str:
        return self._call("load", ctypes.byref(self.program))

    def run(self, act) -> tuple[str, np.ndarray, int]:
        inputs = np.ascontiguousarray(np.asarray(act) & 255, np.uint8)
        outputs = np.zeros((len(inputs), self.program.outputs), np.uint8)
        cycles = ctypes.c_uint32()
        result = self._call(
            "run", ctypes.byref(self.program), inputs.ctypes.data_as(ctypes.c_char_p),
            ctypes.c_size_t(len(inputs)), outputs.ctypes.data_as(ctypes.c_char_p),
            ctypes.byref(cycles),
        )  # fmt: skip
        return result, outputs, cycles.value

    def all(self, words, act) -> tuple[str, np.ndarray, int]:
        """Everything in turn, until something fails."""
        for step in (self.discover, lambda: self.open(words), self.load):
            result = step()
            if result != "ok":
                return result, np.zeros(0), 0
        return self.run(act)

    def _call(self, name: str, *given) -> str:
        return NAMES[getattr(self.library, f"mulfree_{name}")(ctypes.byref(self.device), *given)]


class MockBoard:
    """What the registers do, with the golden model as the engine.

    Members
    -------
    lies
        Offset -> what it reads as.
    busy_looks
        How often a run is seen under way.
    on_read, on_write
        Called with the access's number and value; what they return takes its place, and None drops
        the access.
    """

    def __init__(self, system: SocSpec, lies: dict[int, int] | None = None):
        self.system = system
        self.lies = lies or {}
        self.busy_looks = 2
        self.starts = True
        self.on_read: Callable = lambda _, value: value
        self.on_write: Callable = lambda _, value: value
        self.accesses = 0
        self.windows = {
            "program": np.zeros(system.program_words, np.uint32),
            "data": np.zeros(system.data_words, np.uint32),
        }
        target = system.target
        self.registers = {r.offset: 0 for r in MAP.registers.values()} | {
            MAP.id.offset: MAP.id.fields["value"].reset,
            MAP.version.offset: MAJOR << 16,
            MAP.engine.offset: target.engine,
            MAP.shape.offset: target.shape,
            MAP.limits.offset: target.limits,
            MAP.program_size.offset: system.program_words,
            MAP.data_size.offset: system.data_words,
        }
        self.busy = self.pending = 0
        self.waits = 0

    def wait(self):
        self.waits += 1
        return 0

    def _place(self, offset):
        for name, memory in self.windows.items():
            word = (offset - getattr(MAP, name).offset) // 4
            if 0 <= word < len(memory):
                return memory, word
        return None

    def _bus_error(self):
        self.registers[MAP.status.offset] |= MAP.status.fields["bus_error"].mask

    def read(self, offset):
        self.accesses += 1
        value = 0xFFFFFFFF
        if offset == MAP.status.offset:
            value = self.registers[offset]
            if self.busy:
                self.busy -= 1
                value = value & 8 | 1
        elif offset in self.registers:
            value = self.registers[offset]
        elif (place := self._place(offset)) and not self.busy:
            value = int(place[0][place[1]])
        else:
            self._bus_error()
        return self.on_read(self.accesses, self.lies.get(offset, value))

    def write(self, offset, value):
        self.accesses += 1
        value = self.on_write(self.accesses, value)
        if value is None:
            return
        if offset == MAP.control.offset:
            if value & 2:
                self.busy = 0
                self.registers[MAP.status.offset] &= 8
            elif value & 1 and self.starts:
                self._start()
        elif offset == MAP.status.offset:
            self.registers[offset] &= ~(value & 8)
        elif offset in self.registers:
            self.registers[offset] = value
        elif (place := self._place(offset)) and not self.busy:
            place[0][place[1]] = value
        else:
            self._bus_error()

    def _start(self):
        r, data = self.registers, self.windows["data"]
        self.busy = self.busy_looks
        keep = r[MAP.status.offset] & 8
        held = self.windows["program"]
        words = held[: min(int(held[2]), len(held))]
        try:
            program = Program.from_bytes(words.tobytes())
            images = r[MAP.images.offset]
            if not 1 <= images <= program.batch:
                raise ValueError
        except ValueError:
            codes = MAP.error.fields["code"].encoding
            r[MAP.error.offset] = codes["images" if zlib.crc32(words[:-1]) == words[-1] else "crc"]
            r[MAP.status.offset] = keep | 6
            return
        start, stride = program.bases[0], program.strides[0]
        inputs = data[start : start + stride * images]
        raw = inputs.view(np.uint8).reshape(images, -1)[:, : program.widths[0]]
        found = golden.results(self.system, program, program.target.act.decode(raw.astype("u8")))
        packed = np.zeros((images, 4 * program.strides[-1]), np.uint8)
        packed[:, : program.widths[-1]] = found & 255
        outputs = packed.reshape(-1).view("<u4")
        r[MAP.program_crc.offset] = zlib.crc32(words[:-1].tobytes())
        r[MAP.input_crc.offset] = zlib.crc32(inputs.tobytes())
        r[MAP.output_crc.offset] = zlib.crc32(outputs.tobytes())
        r[MAP.error.offset], r[MAP.cycles.offset] = 0, 100 + images
        r[MAP.status.offset] = keep | 2
        data[program.bases[-1] : program.bases[-1] + len(outputs)] = outputs


# What is compiled.


def test_compiles_without_a_warning_and_needs_nothing(compiler, headers, tmp_path):
    """No library function, and no variable of its own."""
    made = tmp_path / "driver.o"
    run(*compiler, *STRICT, "-O2", f"-I{headers}", f"-I{DRIVER}", "-c", DRIVER / "mulfree.c",
        "-o", made)  # fmt: skip
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm is not installed")
    kinds = {line.split()[-2] for line in run(nm, made).splitlines()}
    assert "T" in kinds
    assert not kinds & set("UBbDdCGgSs"), kinds


def test_header_is_cpp_too(headers, tmp_path):
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    (tmp_path / "user.cpp").write_text('#include "mulfree.h"\n#include "mulfree_registers.h"\n')
    run(compiler, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{headers}", f"-I{DRIVER}",
        tmp_path / "user.cpp")  # fmt: skip


def test_links_on_a_core_without_multiplier_and_library(headers, tmp_path):
    pytest.importorskip("ziglang")
    places = headers, DRIVER, SOURCES / "freestanding"
    compile_c(
        [DRIVER / "mulfree.c"],
        tmp_path / "driver.elf",
        [
            *MACHINES["riscv"].options,
            *FLAGS,
            *STRICT,
            "-Wl,-e,mulfree_run",
            *(f"-I{place}" for place in places),
        ],
    )


@pytest.fixture(scope="session")
def driver(compiler, headers, tmp_path_factory) -> Driver:
    made = tmp_path_factory.mktemp("driver") / "libmulfree.so"
    run(*compiler, *STRICT, "-O2", "-fPIC", "-shared", f"-I{headers}", f"-I{DRIVER}",
        DRIVER / "mulfree.c", "-o", made)  # fmt: skip
    return Driver(made)


# Over the mock.


@pytest.fixture(scope="module")
def small() -> SocSpec:
    core = LutNASpec(outputs=4, lanes=4)
    return SocSpec(core=core, acc_slots=16, channels=64, program_words=1024, data_words=512)


@pytest.fixture(scope="module")
def program(small) -> Program:
    return random_program(small, np.random.default_rng(1), [7, 6, 5], 2)


@pytest.fixture(scope="module")
def act(program):
    return random_inputs(program, np.random.default_rng(2), 5)


@pytest.fixture(scope="module")
def right(small, program, act):
    return golden.results(small, program, act) & 255


@pytest.fixture
def mock(small) -> MockBoard:
    return MockBoard(small)


@pytest.fixture
def session(driver, mock) -> Session:
    return Session(driver, mock.read, mock.write, mock.wait)


def test_crc(driver):
    words = np.random.default_rng(3).integers(0, 1 << 32, 50, np.uint32)
    first = driver.library.mulfree_crc(0, words.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(9))
    rest = words[9:].copy()
    crc = driver.library.mulfree_crc(
        ctypes.c_uint32(first), rest.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(41)
    )
    assert crc == zlib.crc32(words.tobytes())


def test_every_result_has_its_text(driver):
    texts = {driver.text(name) for name in NAMES}
    assert len(texts) == len(NAMES)
    assert driver.library.mulfree_text(len(NAMES)) == b"unknown result"
    assert driver.library.mulfree_text(-1) == b"unknown result"
    codes = MAP.error.fields["code"].encoding.values()
    assert len({driver.library.mulfree_code_text(code) for code in codes}) == len(codes)
    assert driver.library.mulfree_code_text(255) == b"unknown code"


def test_runs(session, mock, program, act, right):
    """Five images in batches of two."""
    result, outputs, cycles = session.all(program.to_words(), act)
    assert result == "ok"
    assert (outputs == right).all()
    assert cycles == 102 + 102 + 101
    assert mock.waits == 3 * mock.busy_looks
    assert session.device.program_words == mock.system.program_words
    assert session.run(act[:0])[0] == "ok"


def test_opens_what_a_program_states(session, program):
    assert session.open(program.to_words()) == "ok"
    opened = session.program
    assert (opened.inputs, opened.outputs, opened.batch) == (7, 5, 2)
    assert (opened.input_base, opened.output_base) == (program.bases[0], program.bases[-1])
    assert (opened.input_stride, opened.output_stride) == (program.strides[0], program.strides[-1])


@pytest.mark.parametrize(
    ("lie", "result"),
    [
        ({MAP.id.offset: 0xFFFFFFFF}, "identity"),
        ({MAP.id.offset: 0}, "identity"),
        ({MAP.version.offset: (MAJOR + 1) << 16}, "version"),
        ({MAP.version.offset: 7}, "version"),
    ],
)
def test_refuses_other_boards(session, mock, lie, result):
    mock.lies = lie
    assert session.discover() == result


def test_a_newer_minor_version_will_do(session, mock):
    mock.lies = {MAP.version.offset: MAJOR << 16 | 7}
    assert session.discover() == "ok"
    assert session.device.version == MAJOR << 16 | 7


def mutated(words, at, value):
    words = words.copy()
    words[at] = value
    words[-1] = zlib.crc32(words[:-1].tobytes())
    return words


def test_refuses_damaged_programs(session, program):
    words = program.to_words()
    assert session.open(words[:16]) == "magic"
    assert session.open(mutated(words, 0, 1)) == "magic"
    assert session.open(mutated(words, 1, 9)) == "format"
    assert session.open(words[:-1]) == "length"
    assert session.open(np.append(words, np.uint32(0))) == "length"
    assert session.open(mutated(words, 5, words[5] & ~np.uint32(0x7FF))) == "format"
    for place in range(3, len(words)):
        wrong = words.copy()
        wrong[place] ^= np.uint32(1 << place % 32)
        assert session.open(wrong) == "crc"


@pytest.mark.parametrize(
    ("register", "change", "result"),
    [
        ("engine", 1 << 16, "engine"),
        ("engine", 1, "ok"),  # another kind that computes the same
        ("shape", 1, "engine"),
        ("limits", -15, "limits"),  # slots
        ("limits", -(60 << 11), "limits"),  # channels
        ("program_size", -1000, "room"),
        ("data_size", -510, "room"),
    ],
)
def test_checks_capabilities(session, mock, program, act, register, change, result):
    offset = getattr(MAP, register).offset
    mock.lies = {offset: mock.registers[offset] + change}
    assert session.discover() == "ok"
    assert session.open(program.to_words()) == "ok"
    before = mock.accesses
    assert session.check() == result
    if result != "ok":
        assert session.load() == result
        assert session.run(act)[0] == result
        assert mock.accesses == before  # the board was left alone


def test_left_shift_is_checked(session, program):
    opened = mutated(program.to_words(), 5, int(program.to_words()[5]) | 1 << 24)
    assert (session.discover(), session.open(opened), session.check()) == ("ok", "ok", "limits")


def test_busy(session, mock, program, act):
    assert session.discover() == "ok"
    assert session.open(program.to_words()) == "ok"
    mock.busy = 1000
    assert session.load() == "busy"
    assert session.run(act)[0] == "busy"
    mock.busy = 0
    assert session.load() == "ok"
    assert session.run(act)[0] == "ok"


def test_timeouts(driver, mock, program, act, right):
    """By looks, and because the caller's wait says so; the next run works."""
    answers = [0]
    session = Session(driver, mock.read, mock.write, lambda: answers[0])
    assert session.all(program.to_words(), act)[0] == "ok"
    mock.busy_looks = 50
    session.device.patience = 20
    assert session.run(act)[0] == "timeout"
    session.device.patience = 100
    assert session.run(act)[0] == "ok"
    answers[0] = 1
    assert session.run(act)[0] == "timeout"
    assert not mock.busy  # aborted
    answers[0] = 0
    result, outputs, _ = session.run(act)
    assert result == "ok"
    assert (outputs == right).all()


def test_interrupt_clocks_and_abort(session, mock):
    """The small functions write and read what they must."""
    call, registers = session._call, mock.registers
    assert session.discover() == "ok"
    assert call("interrupt", 1) == "ok"
    assert registers[MAP.interrupt_enable.offset] == 1
    assert call("interrupt", 0) == "ok"
    assert registers[MAP.interrupt_enable.offset] == 0
    assert call("acknowledge") == "ok"
    assert registers[MAP.interrupt_pending.offset] == 1  # what was written: 1 clears
    registers[MAP.cycles.offset] = 77
    cycles = ctypes.c_uint32()
    assert call("cycles", ctypes.byref(cycles)) == "ok"
    assert cycles.value == 77
    mock.busy = 5
    assert call("abort") == "ok"
    assert not mock.busy


def test_a_run_that_does_not_start(session, mock, program, act):
    mock.starts = False
    assert session.all(program.to_words(), act)[0] == "start"


def test_program_memory_that_does_not_hold(session, mock, program, act):
    place = MAP.program.offset + 4 * 20
    mock.lies = {place: int(program.to_words()[20]) ^ 4}
    assert session.all(program.to_words(), act)[0] == "load"


def test_wrong_crc_on_the_board(session, mock, program, act):
    """The program changed after it was loaded: the board itself finds out."""
    assert session.all(program.to_words(), act)[0] == "ok"
    mock.windows["program"][20] ^= 4
    assert session.run(act)[0] == "reported"
    assert session.device.code == MAP.error.fields["code"].encoding["crc"]
    assert session.load() == "ok"
    assert session.run(act)[0] == "ok"


def test_another_program_on_the_board(session, mock, small, program, act):
    assert session.all(program.to_words(), act)[0] == "ok"
    other = random_program(small, np.random.default_rng(9), [7, 6, 5], 2).to_words()
    mock.windows["program"][: len(other)] = other
    assert session.run(act)[0] == "program_crc"


@pytest.mark.parametrize("register", ["input_crc", "output_crc"])
def test_data_that_changed_on_the_way(session, mock, program, act, register):
    mock.lies = {getattr(MAP, register).offset: 1}
    assert session.all(program.to_words(), act)[0] == register


def test_remembered_bus_error(session, mock, program, act):
    """A bus that cannot fail itself: the engine's own flag is heeded, then cleared."""
    assert session.all(program.to_words(), act)[0] == "ok"
    mock._bus_error()
    assert session.run(act)[0] == "bus"
    assert session.run(act)[0] == "ok"
    mock._bus_error()
    assert session.discover() == "ok"


def test_every_access_may_fail(driver, small, program, act):
    """Whichever it is, the result is `bus`."""
    mock = MockBoard(small)
    session = Session(driver, mock.read, mock.write, mock.wait)
    assert session.all(program.to_words(), act[:2])[0] == "ok"
    total = mock.accesses
    assert total > 100
    for failing in range(1, total + 1):
        mock = MockBoard(small)

        def reads(offset, mock=mock, failing=failing):
            value = mock.read(offset)
            return None if mock.accesses == failing else value

        def writes(offset, value, mock=mock, failing=failing):
            mock.write(offset, value)
            return mock.accesses != failing

        session = Session(driver, reads, writes, mock.wait)
        assert session.all(program.to_words(), act[:2])[0] == "bus", failing


@pytest.mark.parametrize("kind", ["read", "changed write", "lost write"])
def test_no_wrong_result_is_right(driver, small, program, act, right, kind):
    """One access in turn goes wrong unnoticed: an error, or the right outputs."""
    rng = np.random.default_rng(11)
    number, found = 1, {"ok": 0, "error": 0}
    while True:
        mock = MockBoard(small)
        flip = 1 << int(rng.integers(32))

        def spoil(at, value, number=number, flip=flip):
            if at != number:
                return value
            return None if kind == "lost write" else value ^ flip

        setattr(mock, "on_read" if kind == "read" else "on_write", spoil)
        session = Session(driver, mock.read, mock.write, mock.wait)
        result, outputs, _ = session.all(program.to_words(), act[:2])
        if result == "ok":
            assert (outputs == right[:2]).all(), number
        found["ok" if result == "ok" else "error"] += 1
        if mock.accesses < number:
            break
        number += 1
    print(f"\n{kind}: {found}")
    assert found["error"] > 20


# Over the virtual board.


def over(driver: Driver, line: Line) -> Session:
    return Session(
        driver,
        lambda offset: line.read(offset)[0],
        lambda offset, value: line.write(offset, [value]),
    )


def test_digits_on_the_virtual_board(driver, board, system):
    """The driver in C gives the bytes of the golden model, and counts the client's clocks."""
    program = compile_network(digits_network(system), system)
    data = digits.load()
    codes = program.encode(digits.scaled(data.test_images))
    line = Line(board.port)
    session = over(driver, line)
    result, outputs, cycles = session.all(program.to_words(), codes)
    assert result == "ok", driver.text(result)
    expected = golden.results(system, program, codes)
    assert (outputs == expected & 255).all()
    found = program.target.act.decode(outputs.astype(np.uint64)).argmax(axis=1)
    accuracy = digits.accuracy(found, data.test_labels)
    print(f"\naccuracy of the driver in C on the virtual board: {accuracy:.2f} %")
    assert accuracy >= 96
    batch = codes[: program.batch]
    once = session.run(batch)[2]
    assert once == Board(line).run(program, batch).cycles
    assert cycles >= once * (len(codes) // program.batch)
    line.close()


def test_faults_on_the_virtual_board(driver, board, system):
    """A damaged program and an access beyond the end; then all is well again."""
    line = Line(board.port)
    session = over(driver, line)
    rng = np.random.default_rng(4)
    program = random_program(system, rng, [8, 6, 4], 2)
    act = random_inputs(program, rng, 3)
    expected = golden.results(system, program, act) & 255
    assert session.all(program.to_words(), act)[0] == "ok"
    line.write(MAP.program.offset + 4 * 20, [0x12345678])
    assert session.run(act)[0] == "reported"
    assert session.device.code == MAP.error.fields["code"].encoding["crc"]
    assert session.load() == "ok"
    line.read(MAP.data.offset + 4 * system.data_words)
    assert session.run(act)[0] == "bus"
    result, outputs, _ = session.run(act)
    assert result == "ok"
    assert (outputs == expected).all()
    line.close()
