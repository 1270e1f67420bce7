"""Whatever the line does, no wrong result is returned as right, and the next command works."""

import collections
import dataclasses

import numpy as np
import pytest
import serial

from mulfree.soc.program import Program, ProgramError
from mulfree.soc.registers import register_map
from mulfree_firmware.client import Board, BoardError
from mulfree_firmware.line import Line, LineError
from mulfree_sim.golden import soc as golden
from mulfree_sim.programs import random_inputs, random_program

MAP = register_map()
#: Bytes that cross the line in one undisturbed run, about, without and with a program to load.
TRAFFIC, WITH_LOAD = 190, 560


class FaultyPort:
    """A pyserial port that adds, drops or cuts at given places in the traffic, both ways counted.

    Members
    -------
    faults
        Place in the traffic -> bytes put there, or None: the byte there is dropped.
    cut
        Place from which on the port is dead.
    """

    def __init__(self, url, baud, *, timeout):
        self._port = serial.serial_for_url(url, baud, timeout=timeout)
        self.faults: dict[int, bytes | None] = {}
        self.cut: int | None = None
        self.passed = 0
        self._waiting = bytearray()

    def disturb(self, faults, cut=None):
        self.faults, self.cut, self.passed = dict(faults), cut, 0
        self._port.timeout = 0.2  # not to wait for long for what will not come

    def heal(self):
        self.disturb({})
        self._port.timeout = 2.0  # what must come may be late on a busy machine

    def _spoil(self, content: bytes) -> bytes:
        out = bytearray()
        for byte in content:
            if self.cut is not None and self.passed >= self.cut:
                break
            extra = self.faults.get(self.passed, b"")
            if extra is not None:
                out += extra
                out.append(byte)
            self.passed += 1
        return bytes(out)

    def _alive(self):
        if self.cut is not None and self.passed >= self.cut:
            raise serial.SerialException("cable pulled")

    def write(self, content):
        self._alive()
        self._port.write(self._spoil(content))
        self._alive()

    def read(self, count):
        self._alive()
        # What was added on the way leaves the end of the answer for the next reading.
        while len(self._waiting) < count:
            more = self._port.read(count - len(self._waiting))
            if not more:
                break
            self._waiting += self._spoil(more)
        found = bytes(self._waiting[:count])
        del self._waiting[:count]
        self._alive()
        return found

    def reset_input_buffer(self):
        self._alive()
        self._waiting.clear()
        self._port.reset_input_buffer()

    @property
    def timeout(self):
        return self._port.timeout

    @timeout.setter
    def timeout(self, value):
        self._port.timeout = value

    def close(self):
        self._port.close()


class Bed:
    """A client with a faulty port, and what is right."""

    def __init__(self, url, system, rng):
        self.url, self.system, self.rng = url, system, rng
        self.program = random_program(system, rng, [8, 6, 4], 2)
        self.connect()

    def connect(self):
        def opened(*given, **named):
            self.port = FaultyPort(*given, **named)
            return self.port

        self.line = Line(self.url, timeout=2.0, connect=opened)
        self.board = Board(self.line)

    def attempt(self, program=None):
        """Run on fresh inputs; return whether it came through. A wrong result fails the test."""
        program = program or self.program
        act = random_inputs(program, self.rng, int(self.rng.integers(1, program.batch + 1)))
        try:
            found = self.board.run(program, act)
        except (BoardError, LineError, ProgramError):
            return "reported"
        expected = golden.results(self.system, program, act)
        assert (found.outputs == expected).all(), "a wrong result was returned as right"
        return "recovered" if found.repeated else "unharmed"

    def places(self, count):
        """Draw places in the traffic of the next run, which half of the time loads a program."""
        traffic = TRAFFIC
        if self.rng.random() < 0.5:
            self.program = random_program(self.system, self.rng, [8, 6, 4], 2)
            traffic = WITH_LOAD
        return self.rng.integers(traffic, size=count).tolist()


def random_bytes(bed):
    """Noise on the line, both ways, in up to three places."""
    noise = {
        place: bed.rng.integers(0, 256, int(bed.rng.integers(1, 9)), np.uint8).tobytes()
        for place in bed.places(int(bed.rng.integers(1, 4)))
    }
    bed.port.disturb(noise)
    return bed.attempt()


def dropped_byte(bed):
    """One byte is lost."""
    bed.port.disturb(dict.fromkeys(bed.places(1)))
    return bed.attempt()


def cut_in_a_load(bed):
    """The cable is pulled while a program is loaded, and put back."""
    bed.program = random_program(bed.system, bed.rng, [8, 6, 4], 2)
    bed.port.disturb({}, cut=int(bed.rng.integers(60, 500)))
    outcome = bed.attempt()
    assert outcome == "reported"
    bed.line.close()
    bed.connect()
    return outcome


def wrong_crc(bed):
    """A damaged file is refused by the host; damaged words by the board."""
    words = bed.program.to_words().copy()
    words[bed.rng.integers(16, len(words))] ^= np.uint32(1 << int(bed.rng.integers(32)))
    with pytest.raises(ProgramError, match="CRC-32 must be"):
        Program.from_bytes(words.tobytes())
    bed.line.write(MAP.program.offset, words.tolist())
    bed.line.write(MAP.images.offset, [1])
    bed.line.write(MAP.control.offset, [MAP.control.pack(start=1)])
    status, code = 0, 0
    while not MAP.status.fields["done"].of(status) or MAP.status.fields["busy"].of(status):
        status, code = bed.line.read(MAP.status.offset, 2)
    assert code == MAP.error.fields["code"].encoding["crc"]
    assert MAP.status.fields["error"].of(status)
    # The client that thought the program was loaded finds out by itself.
    return bed.attempt()


def unsupported_program(bed):
    """Made for another engine, or too much for this one."""
    target = bed.program.target
    wrong = [
        dataclasses.replace(target, shape=target.shape + (1 << 18)),
        dataclasses.replace(target, engine=target.engine ^ (1 << 16)),
        dataclasses.replace(target, limits=target.limits + 1024),
    ]
    choice = wrong[int(bed.rng.integers(len(wrong)))]
    bad = dataclasses.replace(bed.program, target=choice)
    with pytest.raises(ProgramError, match=r"program needs .*, but the engine has"):
        bed.board.run(bad, np.zeros((1, 8), np.int64))
    return "reported"


def read_past_the_end(bed):
    """The client refuses; the board, asked all the same, answers ones and remembers."""
    size = bed.system.data_words
    start = size - int(bed.rng.integers(0, 4))
    with pytest.raises(BoardError, match="must lie within the data memory's"):
        bed.board.read_memory("data", start, 8)
    beyond = MAP.data.offset + 4 * (size + int(bed.rng.integers(0, 1 << 20)))
    assert bed.line.read(beyond, 3) == [0xFFFFFFFF] * 3
    (status,) = bed.line.read(MAP.status.offset)
    mask = MAP.status.fields["bus_error"].mask
    assert status & mask
    bed.line.write(MAP.status.offset, [mask])
    assert not bed.line.read(MAP.status.offset)[0] & mask
    return "reported"


FAULTS = (
    random_bytes, dropped_byte, cut_in_a_load, wrong_crc, unsupported_program, read_past_the_end,
)  # fmt: skip


def trial(board, system, runs, seed):
    """Do seeded faults in turn; after each, an undisturbed command must work."""
    counts = collections.Counter()
    bed = Bed(board.port, system, np.random.default_rng(seed))
    for number in range(runs):
        fault = FAULTS[number % len(FAULTS)]
        outcome = fault(bed)
        bed.port.heal()
        counts[fault.__name__, outcome] += 1
        after = bed.attempt()
        assert after != "reported", f"run {number}, {fault.__name__}: the next command failed"
        counts["next command", after] += 1
    bed.line.close()
    print(f"\nseed {seed}, {runs} runs:")
    for (what, outcome), count in sorted(counts.items()):
        print(f"  {what.replace('_', ' '):<20} {outcome:<10} {count:5}")
    print(f"  {'wrong results':<31} {0:5}")
    return counts


def test_traffic_is_as_stated(board, system):
    """Faults would fall behind the end of a run otherwise."""
    bed = Bed(board.port, system, np.random.default_rng(0))
    for expected in (WITH_LOAD, TRAFFIC):
        bed.port.heal()
        assert bed.attempt() == "unharmed"
        assert expected * 0.8 < bed.port.passed < expected * 1.2
    bed.line.close()


def test_faults(board, system):
    counts = trial(board, system, 24, seed=7)
    assert counts["dropped_byte", "recovered"] >= 2


@pytest.mark.slow
def test_a_thousand_faults(board, system):
    trial(board, system, 1000, seed=2024)
