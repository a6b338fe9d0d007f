"""tests/system/doors.py: the ZeroMQ doors for backends, as a program with pyzmq uses them."""

import itertools
import json

import msgpack
import zmq

TIMEOUT_MS = 30000


class Door:
    """A socket with a context of its own, connected."""

    def __init__(self, endpoint, kind, linger_ms):
        self._context = zmq.Context()
        self.socket = self._context.socket(kind)
        self.socket.setsockopt(zmq.LINGER, linger_ms)
        self.socket.setsockopt(zmq.SNDTIMEO, TIMEOUT_MS)
        self.socket.setsockopt(zmq.RCVTIMEO, TIMEOUT_MS)
        self.socket.connect(endpoint)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self._context.term()


class Push(Door):
    """The PUSH door: fire and forget."""

    def __init__(self, endpoint):
        super().__init__(endpoint, zmq.PUSH, TIMEOUT_MS)

    def send(self, value):
        """A map, or a list of maps, as msgpack."""
        self.socket.send(msgpack.packb(value))

    def send_json(self, value):
        self.socket.send(json.dumps(value, ensure_ascii=False).encode())

    def send_bytes(self, raw):
        self.socket.send(raw)


class Rpc(Door):
    """The acknowledged door. delimiter: with the empty frame in front that a REQ socket sends."""

    def __init__(self, endpoint, delimiter=False):
        super().__init__(endpoint, zmq.DEALER, 0)
        self.delimiter = delimiter
        self._reqs = itertools.count(1)

    def call(self, messages, op="publish"):
        """The whole answer to a call."""
        call = {"op": op, "req": next(self._reqs), "messages": messages}
        return self.exchange(msgpack.packb(call))

    def exchange(self, raw):
        self.socket.send_multipart([b"", raw] if self.delimiter else [raw])
        frames = self.socket.recv_multipart()
        assert frames[:-1] == ([b""] if self.delimiter else [])
        return msgpack.unpackb(frames[-1])

    def publish(self, **message):
        """Publishes one message; returns its receipt."""
        (result,) = self.call([message])["results"]
        assert "error" not in result, result
        return result
