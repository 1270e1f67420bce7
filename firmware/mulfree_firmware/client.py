"""The host's side of a board: discover, load, run, read back, and never return a wrong result.

The board forms CRC-32s of the program that it ran, of the inputs that it used and of the outputs
that it made. A result is returned only when all three are what the host knows them to be; anything
else is done again, from the start, a few times.
"""

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.engine.network import NetworkSpec
from mulfree.soc.networksoc import NetworkSocSpec
from mulfree.soc.program import Program, Target
from mulfree.soc.registers import register_map
from mulfree.spec import SpecError
from mulfree_firmware.line import Line, LineError

MAP = register_map()
T = TypeVar("T")


class BoardError(RuntimeError):
    """The board refuses, or gives no answer that can be trusted; the message is one sentence."""


@dataclass(frozen=True)
class Capabilities:
    """What a board says that it is.

    Members
    -------
    network
        Its network engine; None where it runs dense layers.
    """

    version: int
    target: Target
    program_words: int
    data_words: int
    network: NetworkSpec | None = None

    @property
    def kind(self) -> str:
        """What the products are made of."""
        names = {v: k for k, v in MAP.engine.fields["kind"].encoding.items()}
        return names.get(MAP.engine.fields["kind"].of(self.target.engine), "unknown")

    def describe(self) -> str:
        """Return it in one line."""
        own = "data memory"
        if self.network is not None:
            own = f"each bank of map memory, {self.network.keep_words} of residual memory"
        return (
            f"{self.kind}: {self.target.describe()}, {self.program_words} words of program memory, "
            f"{self.data_words} of {own}"
        )


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    Members
    -------
    outputs : (images, outputs), int64
    cycles
        The board's clocks, all batches together.
    repeated
        Batches that had to be done again.
    """

    outputs: NDArray[np.int64]
    cycles: int
    repeated: int


class Board:
    """A board on a line.

    Parameters
    ----------
    attempts
        How often a batch is tried.
    patience
        Seconds that a run may take.
    """

    def __init__(self, line: Line, *, attempts: int = 4, patience: float = 10.0) -> None:
        self.line = line
        self._attempts = attempts
        self._patience = patience
        self.loaded: int | None = None  # CRC of the program that the board is thought to hold

    def discover(self) -> Capabilities:
        """Ask the board what it is; two answers in a row must agree.

        Raises
        ------
        BoardError
            Nobody answers, or its register map is another one.
        """
        return self.repeat("identification", self._discover)

    def _discover(self) -> Capabilities:
        first, last = MAP.id.offset, MAP.data_size.offset
        count = (last - first) // 4 + 1
        words = self.line.read(first, count)
        if words != self.line.read(first, count):
            raise LineError("two identifications in a row differ")
        of = {r.name: words[(r.offset - first) // 4] for r in _in(first, last)}
        expected = MAP.id.fields["value"].reset
        if of["id"] != expected:
            raise LineError(f"identification must be {expected:#010x}, not {of['id']:#010x}")
        major = MAP.version.fields["major"]
        if major.of(of["version"]) != major.reset:
            raise BoardError(
                f"register map's version must be {major.reset}, not {major.of(of['version'])}"
            )
        target = Target(of["engine"], of["shape"], of["limits"])
        runs = MAP.engine.fields["runs"]
        network = None
        if runs.of(of["engine"]) == runs.encoding["network"]:
            network = self._described()
        return Capabilities(of["version"], target, of["program_size"], of["data_size"], network)

    def _described(self) -> NetworkSpec:
        """Read what a board says of its network engine."""
        (size,) = self.line.read(MAP.about_size.offset)
        if not 0 < size <= 4 * MAP.about.words:
            raise LineError(f"description must have up to {4 * MAP.about.words} bytes, not {size}")
        words = self.line.read(MAP.about.offset, -(-size // 4))
        if words != self.line.read(MAP.about.offset, len(words)):
            raise LineError("two descriptions in a row differ")
        try:
            return NetworkSocSpec.described(np.array(words, "<u4").tobytes()[:size])
        except SpecError as error:
            raise BoardError(str(error)) from None

    def read_memory(self, window: str, start: int, count: int) -> list[int]:
        """Read words of the `program` or `data` memory.

        Raises
        ------
        BoardError
            They lie beyond its end.
        """
        there = getattr(self.discover(), f"{window}_words")
        if not (start >= 0 and count > 0 and start + count <= there):
            raise BoardError(
                f"words {start}…{start + count - 1} must lie within the {window} memory's {there}"
            )
        place = MAP.windows[window].offset + 4 * start

        def twice() -> list[int]:
            words = self.line.read(place, count)
            if words != self.line.read(place, count):
                raise LineError("two readings in a row differ")
            return words

        return self.repeat("reading", twice)

    def run(self, program: Program, inputs: ArrayLike) -> RunResult:
        """Run a program on coded inputs, shape (images, inputs), batch by batch.

        Raises
        ------
        ProgramError
            The program does not run on this board, or the inputs do not fit the program.
        BoardError
            The board reports an error, or no attempt came through.
        """
        act = np.asarray(inputs)
        program.pack(act)  # refuse before anything is sent
        able = self.discover()
        if able.network is not None:
            raise BoardError(f"the board must run dense layers, not networks: {able.describe()}")
        program.check_runs_on(able.target, able.program_words, able.data_words)
        words = program.to_words()
        outputs, cycles, repeated = [], 0, 0
        for start in range(0, len(act), program.batch):
            batch = act[start : start + program.batch]
            tries = 0

            def once(batch: NDArray = batch) -> tuple[NDArray[np.int64], int]:
                nonlocal tries
                tries += 1
                return self._run_batch(program, words, batch)

            found, clocks = self.repeat("run", once)
            outputs.append(found)
            cycles += clocks
            repeated += tries - 1
        width = program.widths[-1]
        return RunResult(
            np.concatenate([np.empty((0, width), np.int64), *outputs]), cycles, repeated
        )

    def _run_batch(
        self, program: Program, words: NDArray[np.uint32], batch: NDArray
    ) -> tuple[NDArray[np.int64], int]:
        """Load what is missing, run, and check every CRC."""
        line, body = self.line, words[:-1].tobytes()
        crc = zlib.crc32(body)
        packed = program.pack(batch)
        if self.loaded != crc:
            line.write(MAP.program.offset, words.tolist())
        self.loaded = None  # until the board has shown that it holds it
        line.write(MAP.data.offset + 4 * program.bases[0], packed.tolist())
        line.write(MAP.images.offset, [len(batch)])
        line.write(MAP.control.offset, [MAP.control.pack(start=1)])
        self.wait()
        of = self.state()
        self.check_error(of)
        result = line.read(
            MAP.data.offset + 4 * program.bases[-1], program.strides[-1] * len(batch)
        )
        returned = np.array(result, "<u4")
        for what, own in (
            ("program", crc),
            ("input", zlib.crc32(packed.tobytes())),
            ("output", zlib.crc32(returned.tobytes())),
        ):
            if of[f"{what}_crc"] != own:
                raise LineError(
                    f"{what} must have CRC-32 {own:#010x} on the board, "
                    f"not {of[f'{what}_crc']:#010x}"
                )
        self.loaded = crc
        return program.unpack(returned, len(batch)), of["cycles"]

    def state(self) -> dict[str, int]:
        """Return the registers that a run leaves."""
        first, last = MAP.status.offset, MAP.output_crc.offset
        words = self.line.read(first, (last - first) // 4 + 1)
        return {r.name: words[(r.offset - first) // 4] for r in _in(first, last)}

    def wait(self) -> None:
        """Wait for the end of a run."""
        status = MAP.status.fields
        end = time.monotonic() + self._patience
        while True:
            (word,) = self.line.read(MAP.status.offset)
            if status["done"].of(word) and not status["busy"].of(word):
                return
            if not status["busy"].of(word):
                raise LineError("the run did not start")
            if time.monotonic() > end:
                self.line.write(MAP.control.offset, [MAP.control.pack(abort=1)])
                raise LineError(f"the run must end within {self._patience} s")

    def check_error(self, of: dict[str, int]) -> None:
        """Raise what the board reports; a damaged load may be the reason, so it is tried again."""
        code = MAP.error.fields["code"].of(of["error"])
        if MAP.status.fields["error"].of(of["status"]) or code:
            names = {v: k for k, v in MAP.error.fields["code"].encoding.items()}
            raise LineError(f"the board reports error {code} ({names.get(code, 'unknown')})")

    def repeat(self, what: str, once: Callable[[], T]) -> T:
        """Do something until it comes through; bring the line back in step in between."""
        error: LineError | None = None
        for attempt in range(self._attempts):
            try:
                if attempt:
                    self.loaded = None
                    self.line.resynchronise()
                    self.line.write(MAP.control.offset, [MAP.control.pack(abort=1)])
                return once()
            except LineError as failure:
                error = failure
        raise BoardError(f"{what} failed {self._attempts} times, at last because {error}") from None


def _in(first: int, last: int) -> list:
    """Return the registers between two offsets."""
    return [r for r in MAP.registers.values() if first <= r.offset <= last]
