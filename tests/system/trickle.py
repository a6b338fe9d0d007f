"""tests/system/trickle.py: a client that takes the stream of the server in crumbs.

It promises a window of 1 KiB and segments of 536 bytes, so that the server's kernel takes some
30 KiB of what is sent to it instead of megabytes: most frames are cut somewhere on the way.
"""

import itertools
import random

from rawws import Closed, RawWebSocket

SEGMENT = 536  # bytes; the least that every TCP takes


class Trickle(RawWebSocket):
    """Reads 1 to `most` bytes at once. A stream that ends inside of a frame is an error."""

    def __init__(self, url, path, most=1, seed=1, **options):
        sizes = random.Random(seed).choices(range(1, most + 1), k=1009)
        self._sizes = itertools.cycle(sizes)
        super().__init__(url, path, rcvbuf=1, segment=SEGMENT, **options)

    def _receive(self, _=None):
        """The crumbs must not add up behind our back: only what is asked for is read."""
        return super()._receive(next(self._sizes))

    def _take(self, count):
        taken = bytearray()
        while len(taken) < count:
            if not self._buffer and not self._receive():
                assert not taken and not self._in_frame, "the stream ends inside of a frame"
                raise Closed(1006)
            need = count - len(taken)
            taken += self._buffer[:need]
            self._buffer = self._buffer[need:]
        self._in_frame = True
        return bytes(taken)

    def recv_frame(self):
        self._in_frame = False
        return super().recv_frame()
