"""tests/system/movers.py: very many clients that keep their positions and move between nodes.

Native ones follow docs/PROTOCOL.md: on `goaway` they choose a time in their slot, leave at that
time and come back to another node with their positions; some wait for the close instead. Raw ones
can only wait for it. All of them live in one thread with one selector.
"""

import base64
import collections
import heapq
import itertools
import json
import os
import random
import selectors
import socket
import struct
import time
import urllib.parse

from crowd import raise_descriptors
from rawws import CLOSE, PING, PONG, TEXT, encode_frame

# When a client left: `planned` as the server's slot said (None without one), `left` really.
Move = collections.namedtuple("Move", "node native planned left code")


class Mover:
    """A client of one user. got: (group, epoch, offset, data) in order, as a handler sees them."""

    def __init__(self, movers, user, native, groups=(), patient=False):
        self.movers, self.user, self.native, self.groups = movers, user, native, groups
        self.patient = patient  # does not leave by itself: it waits for the close
        self.got = []
        self.wrong = []  # what the protocol does not allow
        self.positions = {}  # group -> [epoch, offset]
        self.begin = {}  # the same, where it began
        self.node = None
        self.welcomed = False
        self.sock = None
        self.planned = None

    def connect(self, node):
        self.node, self.welcomed, self.planned = node, False, None
        self._buffer, self._open = bytearray(), False
        self.sock = socket.create_connection(self.movers.addresses[node], 30)
        key = base64.b64encode(os.urandom(16)).decode()
        kind, protocol = ("n", "Sec-WebSocket-Protocol: peal.v1.json\r\n") if self.native else ("r", "")
        head = (
            f"GET /{kind}/{self.user} HTTP/1.1\r\nHost: peal\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n{protocol}"
            "Sec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        self.sock.sendall(head + (self._hello() if self.native else b""))
        self.sock.setblocking(False)
        self.movers.selector.register(self.sock, selectors.EVENT_READ, self)

    def _hello(self):
        inbox = f"user:{self.user}"
        resume = {"groups": {g: p for g, p in self.positions.items() if g != inbox}}
        if inbox in self.positions:
            resume["inbox"] = self.positions[inbox]
        hello = {"type": "hello", "id": 0, "groups": list(self.groups), "resume": resume}
        return encode_frame(json.dumps(hello))

    def leave(self, code=None):
        """Ends this connection and goes to another node; code: the server closed with it."""
        self.movers.selector.unregister(self.sock)
        if code is None:
            try:
                self.sock.sendall(encode_frame(struct.pack(">H", 1000), CLOSE))
            except OSError:
                pass
        self.sock.close()
        now = time.monotonic()
        self.movers.moves.append(Move(self.node, self.native, self.planned, now, code))
        self.connect(self.movers.other(self.node))

    def on_readable(self):
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self.wrong.append("the stream ended without a close")
            self.leave(1006)
            return
        self._buffer += data
        if not self._open:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self._buffer.startswith(b"HTTP/1.1 101 "):
                self.wrong.append(f"refused: {bytes(self._buffer[:80])}")
                self.leave(1006)
                return
            del self._buffer[: end + 4]
            self._open = True
            self.welcomed = not self.native
        sock = self.sock
        while self.sock is sock and (frame := self._take_frame()) is not None:
            self._on_frame(*frame)

    def _take_frame(self):
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, head = buffer[1], 2
        if length == 126:
            if len(buffer) < 4:
                return None
            (length,), head = struct.unpack_from(">H", buffer, 2), 4
        assert length != 127, "no test here sends such frames"
        if len(buffer) < head + length:
            return None
        opcode, payload = buffer[0] & 15, bytes(buffer[head : head + length])
        del buffer[: head + length]
        return opcode, payload

    def _on_frame(self, opcode, payload):
        if opcode == TEXT:
            if self.native:
                self._on_native(json.loads(payload))
            else:  # JSON or text, both of them words here
                text = payload.decode().strip('"')
                self.got.append((f"user:{self.user}", None, None, text))
        elif opcode == PING:
            self.sock.sendall(encode_frame(payload, PONG))
        elif opcode == CLOSE:
            code = struct.unpack(">H", payload[:2])[0] if payload else 1005
            if code != 4301:
                self.wrong.append(f"closed with {code}")
            self.leave(code)

    def _on_native(self, frame):
        kind = frame["type"]
        if kind == "message":
            group, offset = frame["group"], frame["offset"]
            position = self.positions[group]
            if offset != position[1] + 1:
                self.wrong.append(f"{group}: {offset} after {position[1]}")
            position[1] = offset
            self.got.append((group, position[0], offset, frame["data"]))
        elif kind == "welcome":
            self.welcomed = True
            found = dict(frame["groups"])
            if "inbox" in frame:
                found[f"user:{self.user}"] = frame["inbox"]
            for group, at in found.items():
                self._on_position(group, at)
        elif kind == "joined":
            self._on_position(frame["group"], frame)
        elif kind == "goaway":
            slot = frame["in_ms"] + random.random() * frame["spread_ms"]
            self.planned = time.monotonic() + slot / 1000
            if not self.patient:
                self.movers.at(self.planned, self)
        elif kind not in ("state", "degraded"):
            self.wrong.append(frame)

    def _on_position(self, group, at):
        if "epoch" not in at:  # pending: joined follows
            return
        if group not in self.positions:
            self.begin[group] = (at["epoch"], at["offset"])
            self.positions[group] = [at["epoch"], at["offset"]]
        elif [at["epoch"], at["offset"]] != self.positions[group] or at["recovered"] != "full":
            self.wrong.append(f"{group}: {at} instead of {self.positions[group]}")


def most_in_a_second(times):
    """How many of these times lie within one second, at most."""
    times = sorted(times)
    most = first = 0
    for last, now in enumerate(times):
        while now - times[first] >= 1:
            first += 1
        most = max(most, last - first + 1)
    return most


class Movers:
    def __init__(self, urls):
        self.selector = selectors.DefaultSelector()
        self.addresses = []
        for url in urls:
            address = urllib.parse.urlsplit(url)
            self.addresses.append((address.hostname, address.port))
        self.all = []
        self.moves = []
        self._due = []
        self._numbers = itertools.count()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for mover in self.all:
            mover.sock.close()
        self.selector.close()

    def other(self, node):
        return (node + 1) % len(self.addresses)

    def add(self, node, count, prefix, native, groups=None, patient=0):
        """count clients; groups(i) names the groups of the i-th; every patient-th one waits."""
        raise_descriptors(len(self.all) + 2 * count)
        for i in range(count):
            waits = patient > 0 and i % patient == 0
            named = groups(i) if groups else ()
            mover = Mover(self, f"{prefix}{i}", native, named, waits)
            mover.connect(node)
            self.all.append(mover)
            if i % 50 == 0:
                self.run(0)
        self.run_until(lambda: all(m.welcomed for m in self.all), "everybody is welcomed")

    def at(self, when, mover):
        heapq.heappush(self._due, (when, next(self._numbers), mover, mover.sock))

    def run(self, seconds):
        """Looks once at who is due and who can be read, waiting for so long at most."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, _, mover, sock = heapq.heappop(self._due)
            if mover.sock is sock:  # it was not closed before its time
                mover.leave()
        if self._due:
            seconds = min(seconds, max(0, self._due[0][0] - time.monotonic()))
        for key, _ in self.selector.select(seconds):
            if key.data.sock is key.fileobj:
                key.data.on_readable()

    def run_until(self, condition, what, timeout=30):
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not reached: {what}")
            self.run(0.02)
