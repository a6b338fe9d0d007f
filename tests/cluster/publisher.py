"""tests/cluster/publisher.py: publishers that retry with the same message_id until it is settled.

Each publishes to its own groups, at most one message to each in one call, and asks for the next
only when the last was acknowledged: so the order of its messages is known.
"""

import asyncio
import itertools
import json
import time

import msgpack
import zmq
import zmq.asyncio

from front import host_of
from history import Acked
from peal import API_KEY

ANSWER_S = 1.0
DOOR_ANSWER_S = 0.15  # a router that is killed says nothing; it is soon back
PAUSE_S = 0.02
# Errors that a retry may help against; any other is a bug of the test or of the server.
LATER = {"no_router", "timeout", "queue_full", "rate_limited", "internal", "store_full"}


class NoAnswer(Exception):
    """It may have happened or not."""


class ByHttp:
    """POST /v1/publish at one of several nodes; the next one when it does not answer."""

    def __init__(self, urls, first=0):
        self._hosts = [host_of(url) for url in urls]
        self._next = first
        self._streams = None
        self.unanswered = 0  # requests that were sent, and nothing came back

    async def ask(self, messages):
        try:
            return await asyncio.wait_for(self._exchange(messages), ANSWER_S)
        except (OSError, EOFError, asyncio.TimeoutError, asyncio.IncompleteReadError) as lost:
            self.unanswered += self._streams is not None
            self.close()
            self._next += 1
            raise NoAnswer(str(lost)) from None

    async def _exchange(self, messages):
        host = self._hosts[self._next % len(self._hosts)]
        if self._streams is None:
            name, port = host.rsplit(":", 1)
            self._streams = await asyncio.open_connection(name, int(port))
        reader, writer = self._streams
        body = json.dumps(messages).encode()
        writer.write(
            f"POST /v1/publish HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {API_KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        answer = json.loads(await reader.readexactly(int(fields["content-length"])))
        if fields.get("connection") == "close":
            self.close()
        if "results" not in answer:
            return [answer] * len(messages)
        return answer["results"]

    def close(self):
        if self._streams is not None:
            self._streams[1].transport.abort()
        self._streams = None


class ByDoor:
    """The acknowledged door of one router."""

    def __init__(self, endpoint):
        self._endpoint = endpoint
        self._context = zmq.asyncio.Context()
        self._reqs = itertools.count(1)
        self.unanswered = 0
        self._open()

    def _open(self):
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 5)
        self._socket.connect(self._endpoint)

    async def ask(self, messages):
        req = next(self._reqs)
        await self._socket.send(msgpack.packb({"op": "publish", "req": req, "messages": messages}))
        try:
            while True:
                raw = await asyncio.wait_for(self._socket.recv(), DOOR_ANSWER_S)
                answer = msgpack.unpackb(raw)
                if answer["req"] == req:  # the others are late: they were asked for again
                    return answer.get("results", [answer] * len(messages))
        except asyncio.TimeoutError:
            self.unanswered += 1
            raise NoAnswer("the door") from None

    def close(self):
        self._socket.close()
        self._context.term()


class Publisher:
    """way: ByHttp or ByDoor. Its receipts go into history as soon as they are there."""

    def __init__(self, name, way, history, groups, batch, pause_s=0.0, payload=""):
        self.name = name
        self.way = way
        self.groups = groups
        self.marks = {}  # group: (epoch, offset) of the newest receipt
        self.stopping = False
        self.refused = 0  # messages, each time an error is the answer
        self.slowest_s = 0.0  # to get a batch acknowledged, with all its retries
        self._history = history
        self._batch = min(batch, len(groups))
        self._pause_s = pause_s
        self._payload = payload
        self._numbers = itertools.count(1)
        self._turn = itertools.cycle(groups)

    async def run(self):
        """Publishes until told to stop, and then to each group once more: the mark."""
        try:
            while not self.stopping:
                await self._settle([next(self._turn) for _ in range(self._batch)])
                await asyncio.sleep(self._pause_s)
            for at in range(0, len(self.groups), self._batch):
                await self._settle(self.groups[at : at + self._batch])
        finally:
            self.way.close()

    async def _settle(self, groups):
        """One message to each group, again and again until all are acknowledged."""
        waiting = []
        began = time.monotonic()
        for group in groups:
            id = f"{self.name}-{next(self._numbers)}"
            self._history.asked[id] = group
            self._history.asked_at[id] = began
            waiting.append({"group": group, "message_id": id, "data": self._payload})
        while waiting:
            try:
                results = await self.way.ask(waiting)
            except NoAnswer:
                await asyncio.sleep(PAUSE_S)
                continue
            pairs = list(zip(waiting, results, strict=True))
            waiting = [message for message, result in pairs if not self._take(message, result)]
            if waiting:
                await asyncio.sleep(PAUSE_S)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def _take(self, message, result):
        """Is this message settled?"""
        if "error" in result:
            assert result["error"]["code"] in LATER, result
            self.refused += 1
            return False
        assert result["id"] == message["message_id"], (message, result)
        assert result["group"] == message["group"], (message, result)
        group, epoch, offset = result["group"], result["epoch"], result["offset"]
        duplicate = result.get("duplicate", False)
        receipt = Acked(
            time.monotonic(), self.name, result["id"], group, epoch, offset, result["ack"], duplicate
        )
        self._history.acked.append(receipt)
        self.marks[group] = (epoch, offset)
        return True


class Publishers:
    """async with Publishers([...]): they run; at the end each has published its marks."""

    def __init__(self, publishers):
        self.publishers = publishers
        self._tasks = []

    async def __aenter__(self):
        self._tasks = [asyncio.create_task(publisher.run()) for publisher in self.publishers]
        return self

    async def __aexit__(self, kind, *_):
        if kind is not None:
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=kind is not None)

    async def stop(self, seconds=30):
        """Waits for the marks; returns them, {group: (epoch, offset)}."""
        for publisher in self.publishers:
            publisher.stopping = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), seconds)
        return {group: at for each in self.publishers for group, at in each.marks.items()}
