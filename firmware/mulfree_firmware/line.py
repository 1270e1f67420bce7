"""A board's UART seen from the host: words read and written by `uartbone` commands.

The format has no framing and no check sum, and writes are not answered. So this module promises
little: what it reads came in time, and `resynchronise` brings both sides back to the start of a
command. That the right thing was read and written is for `client` to find out, by CRCs that the
board forms.
"""

import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import serial

from mulfree.soc.registers import register_map
from mulfree.soc.uart import RESYNC_BYTES

#: Words of one command at the most; 256 is coded as 0, which LiteX's client cannot.
BURST = 255
WRITE, READ = 1, 2


class LineError(RuntimeError):
    """The line answered nothing in time, or nonsense, or is gone; the message is one sentence."""


class Line:
    """Words over a serial port.

    Parameters
    ----------
    port
        A pyserial URL: ``/dev/ttyUSB0``, ``COM3``, ``socket://127.0.0.1:4000`` …
    timeout
        Seconds of silence after which an answer is given up.
    connect
        Opens the port; a test puts a faulty one in its place.

    Raises
    ------
    LineError
        The port cannot be opened.
    """

    def __init__(
        self,
        port: str,
        *,
        baud: int = 115200,
        timeout: float = 1.0,
        connect: Callable[..., Any] = serial.serial_for_url,
    ) -> None:
        self.port = port
        try:
            self._serial = connect(port, baud, timeout=timeout)
        except (serial.SerialException, ValueError, OSError) as error:
            raise LineError(f"port {port} cannot be opened: {error}") from None

    def close(self) -> None:
        """Close the port."""
        self._serial.close()

    def send(self, content: bytes) -> None:
        """Send bytes as they are."""
        try:
            self._serial.write(content)
        except (serial.SerialException, OSError) as error:
            raise LineError(f"port {self.port} is gone: {error}") from None

    def receive(self, count: int) -> bytes:
        """Return `count` bytes."""
        try:
            content = self._serial.read(count)
        except (serial.SerialException, OSError) as error:
            raise LineError(f"port {self.port} is gone: {error}") from None
        if len(content) < count:
            raise LineError(f"port {self.port} must answer {count} bytes, not {len(content)}")
        return content

    def discard(self) -> None:
        """Throw away what has come in unasked."""
        try:
            self._serial.reset_input_buffer()
        except (serial.SerialException, OSError) as error:
            raise LineError(f"port {self.port} is gone: {error}") from None

    def read(self, address: int, count: int = 1) -> list[int]:
        """Read words from a byte address on."""
        words: list[int] = []
        while len(words) < count:
            burst = min(BURST, count - len(words))
            self.discard()
            at = address // 4 + len(words)
            self.send(struct.pack(">BBI", READ, burst, at))
            words += struct.unpack(f">{burst}I", self.receive(4 * burst))
        return words

    def write(self, address: int, words: Sequence[int]) -> None:
        """Write words from a byte address on."""
        for start in range(0, len(words), BURST):
            burst = [int(w) for w in words[start : start + BURST]]
            head = struct.pack(">BBI", WRITE, len(burst), address // 4 + start)
            self.send(head + struct.pack(f">{len(burst)}I", *burst))

    def resynchronise(self) -> None:
        """Bring the board to the start of a command, whatever it was in the middle of.

        Zero bytes end any command, and start none.

        Raises
        ------
        LineError
            The board does not identify itself afterwards.
        """
        self.send(bytes(RESYNC_BYTES))
        identity = register_map().id
        expected = identity.fields["value"].reset
        found = None
        for _ in range(3):
            self._drain()
            try:
                (found,) = self.read(identity.offset)
            except LineError:
                continue  # an answer to what was on its way when the zeros came
            if found == expected:
                return
        what = "nothing" if found is None else f"{found:#010x}"
        raise LineError(f"port {self.port} must identify as {expected:#010x}, not as {what}")

    def _drain(self) -> None:
        """Read until nothing has come for a while."""
        before = self._serial.timeout
        # A burst's answer has no pauses longer than a scheduler's.
        self._serial.timeout = min(0.05, before)
        end = time.monotonic() + 20 * before
        try:
            while self._serial.read(4096) and time.monotonic() < end:
                pass
        except (serial.SerialException, OSError) as error:
            raise LineError(f"port {self.port} is gone: {error}") from None
        finally:
            self._serial.timeout = before
