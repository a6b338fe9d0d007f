"""tests/system/crowd.py: very many receiving clients in one thread.

Each is a blocking handshake followed by a non-blocking socket in one selector; frames of the
server are taken apart strictly as in rawws.py, but without a function call for each byte.
"""

import collections
import resource
import selectors
import struct
import time

from rawws import CLOSE, PING, PONG, TEXT, RawWebSocket, encode_frame


def raise_descriptors(count):
    """Room for count sockets on top of what is open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 100), hard))


class Member:
    def __init__(self, ws):
        self.ws = ws
        self.texts = collections.deque()
        self.closed = None  # the payload of a Close frame, b"" at the end of the stream
        self._buffer = bytearray(ws._buffer)

    def on_readable(self):
        try:
            data = self.ws.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = self.closed or b""
            return
        self._buffer += data
        at = 0
        while (end := self._frame_at(at)) is not None:
            at = end
        del self._buffer[:at]

    def _frame_at(self, at):
        """Takes the frame at `at`; returns where it ends, None when it is not complete."""
        buffer = self._buffer
        if len(buffer) < at + 2:
            return None
        length, head = buffer[at + 1], 2
        assert length < 128, "a server must not mask"
        if length == 126:
            if len(buffer) < at + 4:
                return None
            (length,) = struct.unpack_from(">H", buffer, at + 2)
            head = 4
        assert length != 127, "no test here sends such frames"
        end = at + head + length
        if len(buffer) < end:
            return None
        payload = bytes(buffer[at + head : end])
        opcode = buffer[at] & 15
        assert buffer[at] & 0xF0 == 0x80, "whole frames without reserved bits"
        if opcode == TEXT:
            self.texts.append(payload)
        elif opcode == PING:
            self.ws.sock.sendall(encode_frame(payload, PONG))
        elif opcode == CLOSE:
            self.closed = payload
        return end


class Crowd:
    def __init__(self, url, count, path):
        raise_descriptors(count)
        self._selector = selectors.DefaultSelector()
        self.members = []
        for _ in range(count):
            member = Member(RawWebSocket(url, path))
            assert member.ws.status == 101
            member.ws.sock.setblocking(False)
            self._selector.register(member.ws.sock, selectors.EVENT_READ, member)
            self.members.append(member)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            member.ws.sock.close()
        self._selector.close()

    def send_text(self, text):
        for member in self.members:
            member.ws.sock.sendall(encode_frame(text))

    def wait(self, count, timeout=60):
        """Waits until every member has got at least count texts."""
        deadline = time.monotonic() + timeout
        waiting = {m for m in self.members if len(m.texts) < count}
        while waiting:
            ready = self._selector.select(max(0, deadline - time.monotonic()))
            if not ready:
                least = min(len(m.texts) for m in waiting)
                raise TimeoutError(f"{len(waiting)} members wait, one has {least} of {count}")
            for key, _ in ready:
                key.data.on_readable()
                assert key.data.closed is None, f"closed: {key.data.closed}"
                if len(key.data.texts) >= count:
                    waiting.discard(key.data)
