"""Networks on a board that has the network engine: load, run input by input, read back.

The board forms CRC-32s of the words that crossed its windows, their places included. An output is
returned only when those of program, input and output are what the host knows them to be; anything
else is done again, from the start, a few times.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.engine.layers import EngineShape
from mulfree.engine.program import Program
from mulfree.soc import windows
from mulfree.soc.registers import Window, register_map
from mulfree.soc.windows import Words
from mulfree_firmware.client import Board, BoardError, RunResult
from mulfree_firmware.line import BURST, LineError

MAP = register_map()


def run(board: Board, program: Program, inputs: ArrayLike) -> RunResult:
    """Run a network on coded inputs, shape (n, …); the outputs are the engine's, without softmax.

    Raises
    ------
    ProgramError, SpecError
        The program does not run on this board.
    BoardError
        The board has another engine, reports an error, or no attempt came through.
    """
    able = board.discover()
    if able.network is None:
        raise BoardError(
            f"the board must have the network engine for {program.name}, not {able.describe()}"
        )
    program.check_runs_on(EngineShape.of(able.network))
    image = windows.program_words(able.network, program)
    codes = program.shape.act.check(inputs, "input")
    if codes.shape[1:] != program.input_shape:
        raise BoardError(
            f"input must have shape (n, {', '.join(map(str, program.input_shape))}), "
            f"not {codes.shape}"
        )
    device = _Device(board, program, image)
    outputs, cycles, repeated = np.empty((len(codes), *program.output_shape), np.int64), 0, 0
    for index, one in enumerate(codes):
        tries = device.tries
        outputs[index], clocks = board.repeat("run", lambda one=one: device.run(one))
        cycles += clocks
        repeated += device.tries - tries - 1
    return RunResult(outputs, cycles, repeated)


class _Device:
    """A board while one program is run on it."""

    def __init__(self, board: Board, program: Program, image: Words) -> None:
        self._board, self._program, self._image = board, program, image
        self._crc = windows.crc([image])
        self.tries = 0

    def run(self, codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """Load what is missing, run, and check every CRC; return the output and the clocks."""
        board, line, program = self._board, self._board.line, self._program
        self.tries += 1
        if board.loaded != self._crc:
            self._write("program", MAP.program, [self._image])
        board.loaded = None  # until the board has shown that it holds it
        own = windows.input_words(program, codes)
        self._write("input", MAP.data, own)
        line.write(MAP.control.offset, [MAP.control.pack(start=1)])
        board.wait()
        state = board.state()
        board.check_error(state)
        found = [
            Words(run.offset, tuple(line.read(MAP.data.offset + 4 * run.offset, len(run.words))))
            for run in windows.output_places(program)
        ]
        self._check("output", windows.crc(found))
        self._check("program", self._crc)
        self._check("input", windows.crc(own))
        board.loaded = self._crc
        return windows.output_codes(program, found), state["cycles"]

    def _write(self, what: str, window: Window, runs: list[Words]) -> None:
        """Write words; ask after each burst, as a slow board would fall behind."""
        crc = 0
        for part in (part for run in runs for part in run.parts(BURST)):
            self._board.line.write(window.offset + 4 * part.offset, part.words)
            crc = windows.crc([part], crc)
            self._check(what, crc)

    def _check(self, what: str, own: int) -> None:
        (there,) = self._board.line.read(MAP.registers[f"{what}_crc"].offset)
        if there != own:
            raise LineError(f"{what} must have CRC-32 {own:#010x} on the board, not {there:#010x}")
