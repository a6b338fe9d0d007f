"""tests/system/pressure.py: publishers that send as much as they can, and what they were told."""

import http.client
import itertools
import json
import pathlib
import threading
import time

import msgpack
import zmq

from peal import API_KEY

HEADERS = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}


def rss(server):
    """Resident memory of a process, in bytes."""
    for line in pathlib.Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


class Flood(threading.Thread):
    """Until `enough` is set: calls to one door, as many under way as `window` allows.

    stored: (epoch, offset, n) of what was acknowledged; refused: code -> how many; after: the times
    that refusals named; doubtful: n of what was sent and not answered."""

    def __init__(self, enough, user, batch, size):
        super().__init__(daemon=True)
        self.enough, self.user, self.batch, self.size = enough, user, batch, size
        self.stored, self.refused, self.after = [], {}, []
        self.answers = []  # when they came
        self.doubtful = set()
        self.problem = None
        self.numbers = itertools.count()

    def messages(self):
        """The next batch: [(n, message)]."""
        return [
            (n, {"user": self.user, "data": {"n": n, "fill": "x" * self.size}})
            for n in itertools.islice(self.numbers, self.batch)
        ]

    def take(self, sent, results):
        self.answers.append(time.monotonic())
        assert len(results) == len(sent)
        for n, result in zip(sent, results):
            self.doubtful.discard(n)
            if "error" in result:
                code = result["error"]["code"]
                self.refused[code] = self.refused.get(code, 0) + 1
                if "after_ms" in result["error"]:
                    self.after.append(result["error"]["after_ms"])
            else:
                assert result["ack"] == "stored", result
                self.stored.append((result["epoch"], result["offset"], n))

    def run(self):
        try:
            self.flood()
        except Exception as problem:  # told by the thread that joins
            self.problem = problem

    def done(self, timeout=30):
        self.join(timeout)
        assert not self.is_alive(), "the publisher hangs"
        if self.problem is not None:
            raise self.problem
        return self


class HttpFlood(Flood):
    def __init__(self, enough, server, *args):
        super().__init__(enough, *args)
        self.address = server.api.address
        self.statuses = {}
        self.retry_after = []

    def flood(self):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        while not self.enough.is_set():
            batch = self.messages()
            sent = [n for n, _ in batch]
            self.doubtful.update(sent)
            body = json.dumps([message for _, message in batch])
            connection.request("POST", "/v1/publish", body, HEADERS)
            answer = connection.getresponse()
            text = answer.read()
            self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
            if answer.status in (429, 503):
                self.retry_after.append(int(answer.getheader("Retry-After")))
            body = json.loads(text)
            results = body["results"] if "results" in body else [body] * len(sent)
            self.take(sent, results)
        connection.close()


class DoorFlood(Flood):
    """A DEALER that keeps `window` calls under way and does not slow down when it is refused."""

    def __init__(self, enough, server, window, *args):
        super().__init__(enough, *args)
        self.endpoint, self.window = server.doors["rpc"], window
        self.under_way = {}

    def receive(self, socket):
        answer = msgpack.unpackb(socket.recv())
        sent = self.under_way.pop(answer["req"])
        self.take(sent, answer["results"] if "results" in answer else [answer] * len(sent))

    def flood(self):
        context = zmq.Context()
        with context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.sndtimeo = socket.rcvtimeo = 30000
            socket.connect(self.endpoint)
            for req in itertools.count(1):
                if self.enough.is_set():
                    break
                batch = self.messages()
                self.under_way[req] = [n for n, _ in batch]
                self.doubtful.update(self.under_way[req])
                call = {"op": "publish", "req": req, "messages": [m for _, m in batch]}
                socket.send(msgpack.packb(call))
                while len(self.under_way) >= self.window or socket.poll(0):
                    self.receive(socket)
            while self.under_way:
                self.receive(socket)
        context.term()


class PushFlood(Flood):
    """Counts what it sent; nobody tells it anything."""

    def __init__(self, enough, server, *args):
        super().__init__(enough, *args)
        self.endpoint = server.doors["pull"]
        self.sent = 0
        self.waited = 0  # sends that found the socket full

    def flood(self):
        context = zmq.Context()
        with context.socket(zmq.PUSH) as socket:
            socket.linger = 30000
            socket.connect(self.endpoint)
            while not self.enough.is_set():
                payload = msgpack.packb([message for _, message in self.messages()])
                while not self.enough.is_set():
                    try:
                        socket.send(payload, zmq.DONTWAIT)
                        self.sent += self.batch
                        break
                    except zmq.Again:
                        self.waited += 1
                        socket.poll(100, zmq.POLLOUT)
        context.term()


def inbox(server, user):
    """{offset: n} of all that is kept."""
    found, query = {}, ""
    while True:
        page = server.api.get(f"/v1/inbox/{user}?limit=256{query}").json
        found.update({m["offset"]: m["data"]["n"] for m in page["messages"]})
        if "next" not in page:
            return found
        query = f"&before={page['next']}"
