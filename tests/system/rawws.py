"""tests/system/rawws.py: a WebSocket client that can break every rule (RFC 6455).

It works on bytes: any handshake, any frame, masked or not, whole or in pieces. What it receives
it judges strictly: a masked or malformed frame of the server is an AssertionError.
"""

import base64
import collections
import hashlib
import os
import socket
import struct
import urllib.parse

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TIMEOUT_S = 30

Frame = collections.namedtuple("Frame", "fin rsv opcode payload")


class Closed(Exception):
    """The connection is over: code and reason of the close frame, or 1006 without one."""

    def __init__(self, code, reason=""):
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


def mask(payload, key):
    """RFC 6455 section 5.3."""
    whole = key * (len(payload) // 4 + 1)
    n = len(payload)
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole[:n], "big")).to_bytes(n, "big")


def encode_frame(payload=b"", opcode=TEXT, fin=True, rsv=0, key=b"\x01\x02\x03\x04", length=None):
    """The bytes of a frame. key None: unmasked. length: what the header claims, if a lie."""
    payload = payload.encode() if isinstance(payload, str) else payload
    length = len(payload) if length is None else length
    masked = 0 if key is None else 0x80
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if length < 126:
        head += bytes([masked | length])
    elif length < 65536:
        head += bytes([masked | 126]) + struct.pack(">H", length)
    else:
        head += bytes([masked | 127]) + struct.pack(">Q", length)
    return head + (payload if key is None else key + mask(payload, key))


class RawWebSocket:
    """One connection. status and headers tell how the handshake went; status 101 is open."""

    def __init__(
        self, url, path="/v1/ws", headers=(), protocols=(), head=None, rcvbuf=None, segment=None
    ):
        """head: bytes sent instead of the handshake. rcvbuf: SO_RCVBUF, to be a slow reader.
        segment: TCP_MAXSEG, from which the other kernel takes the size of its send buffer."""
        address = urllib.parse.urlsplit(url)
        self.sock = socket.socket()
        self.sock.settimeout(TIMEOUT_S)
        if rcvbuf is not None:  # before connect, or the window is already promised
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if segment is not None:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        self.sock.connect((address.hostname, address.port))
        self.key = base64.b64encode(os.urandom(16))
        self._buffer = b""
        self._close = None  # what ended the connection, once it has
        self.send_bytes(head or self._request(address.netloc, path, headers, protocols))
        self._read_response()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def _request(self, host, path, headers, protocols):
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {self.key.decode()}",
            "Sec-WebSocket-Version: 13",
        ]
        if protocols:
            lines.append(f"Sec-WebSocket-Protocol: {', '.join(protocols)}")
        lines += [f"{name}: {value}" for name, value in dict(headers).items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _read_response(self):
        """status None: closed without an answer."""
        self.status, self.headers = None, {}
        while b"\r\n\r\n" not in self._buffer:
            if not self._receive():
                return
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        for line in lines:
            name, value = line.split(":", 1)
            self.headers[name.lower()] = value.strip()

    @property
    def accept_is_right(self):
        """Did the server prove that it read our Sec-WebSocket-Key?"""
        proof = base64.b64encode(hashlib.sha1(self.key + GUID).digest()).decode()
        return self.headers.get("sec-websocket-accept") == proof

    def read_body(self):
        """The rest of an answer that is not 101, until the server closes."""
        while self._receive():
            pass
        return self._buffer

    # Sending

    def send_bytes(self, raw):
        self.sock.sendall(raw)

    def send_frame(self, payload=b"", opcode=TEXT, **options):
        """Options are those of encode_frame."""
        self.send_bytes(encode_frame(payload, opcode, **options))

    def send_text(self, text):
        self.send_frame(text, TEXT)

    def send_binary(self, data):
        self.send_frame(data, BINARY)

    def send_fragments(self, parts, opcode=TEXT):
        """One message in as many frames as parts."""
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            self.send_frame(part, opcode if index == 0 else CONT, fin=last)

    def send_close(self, code=1000, reason=""):
        self.send_frame(struct.pack(">H", code) + reason.encode(), CLOSE)

    def reset(self):
        """Ends the connection with RST, as a crashed peer's kernel does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # Receiving

    def _receive(self, most=65536):
        try:
            part = self.sock.recv(most)
        except ConnectionResetError:
            part = b""
        self._buffer += part
        return len(part) > 0

    def _take(self, count):
        while len(self._buffer) < count:
            if not self._receive():
                raise Closed(1006)
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def recv_frame(self):
        """The next frame, whatever it is. Closed(1006): the connection ended instead."""
        first, second = self._take(2)
        assert not second & 0x80, "a server must not mask (RFC 6455 section 5.1)"
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self._take(2))
            assert length > 125, "not the shortest length (RFC 6455 section 5.2)"
        elif length == 127:
            (length,) = struct.unpack(">Q", self._take(8))
            assert length > 65535, "not the shortest length (RFC 6455 section 5.2)"
        frame = Frame(first & 0x80 != 0, first >> 4 & 7, first & 15, self._take(length))
        if frame.opcode >= CLOSE:
            assert frame.fin, "a control frame in pieces (RFC 6455 section 5.5)"
            assert length <= 125, "a control frame that is too long (RFC 6455 section 5.5)"
        return frame

    def recv_message(self, answer_pings=True):
        """The next message: str or bytes. Raises Closed with the server's close code."""
        opcode, parts = None, []
        while True:
            frame = self.recv_frame()
            assert frame.rsv == 0, "reserved bits without an extension"
            if frame.opcode == PING:
                if answer_pings:
                    self.send_frame(frame.payload, PONG)
            elif frame.opcode == CLOSE:
                raise closed_by(frame)
            elif frame.opcode != PONG:
                assert (frame.opcode == CONT) == (opcode is not None), "fragments of two messages"
                opcode = frame.opcode if opcode is None else opcode
                parts.append(frame.payload)
                if frame.fin:
                    whole = b"".join(parts)
                    return whole.decode("utf-8") if opcode == TEXT else whole

    def recv_close(self):
        """Reads on to the end and tells how the server closed: (code, reason)."""
        try:
            while True:
                self.recv_message()
        except Closed as closed:
            return closed.code, closed.reason


def closed_by(frame):
    """What a close frame says; 1005 when it says nothing (RFC 6455 section 7.1.5)."""
    if not frame.payload:
        return Closed(1005)
    assert len(frame.payload) >= 2, "a close frame of one byte"
    return Closed(struct.unpack(">H", frame.payload[:2])[0], frame.payload[2:].decode("utf-8"))
