"""Lines in: newline-delimited JSON, cut anywhere, as the frames that event streams give."""

from gwproto.failures import WireError
from gwproto.sse.decoder import MAX_EVENT, repaired
from gwproto.sse.frame import Frame


class LineDecoder:
    """One document to a line; blank lines are nothing. The last line may lack its end.

    ``max_line`` bounds what is kept of a line, in bytes. A line over it raises :class:`WireError` once the frames
    before it have been delivered, and so does everything after.
    """

    __slots__ = ("_broken", "_max", "_pending")

    def __init__(self, max_line: int = MAX_EVENT) -> None:
        self._max = max_line
        self._pending = bytearray()
        self._broken = False

    @property
    def pending(self) -> bool:
        """Has a line begun that has not ended?"""
        return bool(self._pending.strip())

    def receive(self, data: bytes) -> list[Frame]:
        """The lines that ``data`` completes."""
        frames: list[Frame] = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            if self._pending:
                self._pending += line
                line = bytes(self._pending)
                self._pending.clear()
            if not self._take(line, frames):
                break
        else:
            self._pending += rest
            self._broken = self._broken or len(self._pending) > self._max
        if self._broken and not frames:
            raise WireError("a line is over the size limit")
        return frames

    def end(self) -> Frame | None:
        """The line that the stream ended in, if it has one; the caller judges it."""
        frames: list[Frame] = []
        line = bytes(self._pending)
        self._pending.clear()
        if self._broken or not self._take(line, frames):
            raise WireError("a line is over the size limit")
        return frames[0] if frames else None

    def _take(self, line: bytes, frames: list[Frame]) -> bool:
        """False: it is too long."""
        if self._broken or len(line) > self._max:
            self._broken = True
            return False
        line = line.strip()
        if line:
            frames.append(Frame(repaired(line)))
        return True
