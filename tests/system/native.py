"""tests/system/native.py: a plain client of the native protocol (docs/PROTOCOL.md).

WebSocket comes from python3-websockets, a library that knows nothing of ours, driven over a
blocking socket: a test reads top to bottom and there is no event loop to wait for.
"""

import collections
import itertools
import json
import socket
import time
import urllib.parse

import msgpack
from websockets.client import ClientConnection
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

TIMEOUT_S = 30


class Refused(Exception):
    """The upgrade was answered with another status than 101."""

    def __init__(self, status, body):
        super().__init__(f"{status} {body[:200]!r}")
        self.status = status


class Closed(Exception):
    """The server ended the connection; 1006 when without a close frame."""

    def __init__(self, code, reason):
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Error(Exception):
    """A command was answered with `error`."""

    def __init__(self, frame):
        super().__init__(f"{frame.get('code')}: {frame.get('message')}")
        self.frame = frame
        self.code = frame.get("code")


class Native:
    """One connection of one device.

    Replies are matched to their commands by id; everything else waits in `frames`, in order."""

    def __init__(self, url, token=None, *, path="/v1/ws", format="json", hello=True, **fields):
        """url: that of the web listener. fields go into hello: device, name, resume, groups.

        hello=False sends none: the test does that itself."""
        self.format = format
        self.frames = collections.deque()
        self.close_code = None
        self.welcome = None
        self._ids = itertools.count(1)
        self._events = collections.deque()
        self._open(url, path)
        if hello:
            token = {} if token is None else {"token": token}
            self.welcome = self.command("hello", **token, **fields)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _open(self, url, path):
        address = urllib.parse.urlsplit(url)
        uri = parse_uri(f"ws://{address.netloc}{path}")
        self._connection = ClientConnection(
            uri, subprotocols=[f"peal.v1.{self.format}"], max_size=None
        )
        self._socket = socket.create_connection((address.hostname, address.port), TIMEOUT_S)
        self._connection.send_request(self._connection.connect())
        self._flush()
        response = self._next_event(time.monotonic() + TIMEOUT_S)
        if response.status_code != 101:
            self.abort()
            raise Refused(response.status_code, response.body or b"")
        if self._connection.handshake_exc is not None:
            self.abort()
            raise self._connection.handshake_exc

    # Bytes

    def _flush(self):
        for data in self._connection.data_to_send():
            if data:
                self._socket.sendall(data)
            else:
                self._socket.shutdown(socket.SHUT_WR)

    def _next_event(self, deadline):
        """The next handshake response or frame; pings are answered on the way."""
        while not self._events:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("nothing came from the server")
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except ConnectionResetError:
                data = b""
            except socket.timeout:
                continue
            if data:
                self._connection.receive_data(data)
            else:
                try:
                    self._connection.receive_eof()
                except EOFError:  # in the middle of the handshake
                    raise Closed(1006, "") from None
            try:
                self._flush()
            except OSError:
                pass  # the other side is gone; what it said before still counts
            self._events.extend(self._connection.events_received())
            if not data and not self._events:
                self._end()
        return self._events.popleft()

    def _end(self):
        self.close_code = self._connection.close_code or 1006
        raise Closed(self.close_code, self._connection.close_reason or "")

    # Frames

    def send(self, type, **fields):
        """Sends a command without waiting; returns its id."""
        number = next(self._ids)
        self.send_raw({"type": type, "id": number, **fields})
        return number

    def send_raw(self, value):
        """Sends any value as one frame; text goes as it is."""
        if self.format == "msgpack":
            self._connection.send_binary(msgpack.packb(value))
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            self._connection.send_text(text.encode())
        self._flush()

    def _receive(self, deadline):
        """The next frame of the protocol, decoded."""
        parts = []
        while True:
            event = self._next_event(deadline)
            assert isinstance(event, Frame)
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                parts.append(event.data)
                if event.fin:
                    return self._decode(b"".join(parts))

    def _decode(self, data):
        if self.format == "msgpack":
            return msgpack.unpackb(data, strict_map_key=False)
        return json.loads(data)

    def command(self, type, timeout=TIMEOUT_S, **fields):
        """Sends a command and returns its reply. Raises Error when that is an `error`."""
        number = self.send(type, **fields)
        deadline = time.monotonic() + timeout
        while True:
            frame = self._receive(deadline)
            if frame.get("id") != number or frame.get("type") == "message":
                self.frames.append(frame)
            elif frame["type"] == "error":
                raise Error(frame)
            else:
                return frame

    def next(self, type=None, timeout=TIMEOUT_S):
        """The next frame that is no reply; with a type, the first of it: others stay queued."""
        deadline = time.monotonic() + timeout
        seen = 0
        while True:
            for index in range(seen, len(self.frames)):
                if type is None or self.frames[index].get("type") == type:
                    frame = self.frames[index]
                    del self.frames[index]
                    return frame
            seen = len(self.frames)
            self.frames.append(self._receive(deadline))

    def messages(self, count, timeout=TIMEOUT_S):
        """The next `count` messages."""
        return [self.next("message", timeout) for _ in range(count)]

    def settled(self):
        """Everything that the server sent before it answered a ping of now.

        The way to say "and nothing else came" without waiting for time to pass."""
        self.command("ping")
        frames = list(self.frames)
        self.frames.clear()
        return frames

    # Ending

    def wait_closed(self, timeout=TIMEOUT_S):
        """Reads on until the server ends the connection; returns the close code."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                self.frames.append(self._receive(deadline))
        except Closed as closed:
            self._socket.close()
            return closed.code

    def close(self, code=1000):
        """Closes as a browser does, with the closing handshake."""
        if self._socket.fileno() < 0:
            return
        if self.close_code is None:
            try:
                self._connection.send_close(code)
                self._flush()
                self.wait_closed()
            except OSError:
                pass
        self._socket.close()

    def abort(self):
        """Goes away without a word."""
        self._socket.close()
