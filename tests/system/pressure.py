"""tests/system/pressure.py: publishers that send as much as they can, and what they were told."""

import http.client
import itertools
import json
import os
import pathlib
import threading
import time

import msgpack
import zmq

from peal import API_KEY, program

HEADERS = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}


# The address sanitizer keeps what is freed for a while, a quarter of a gigabyte of it: memory that
# is measured must be the program's own.
ENV = {"ASAN_OPTIONS": ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "quarantine_size_mb=4"]))}


def sanitized():
    """Is the program under test one that takes several times the memory?"""
    return b"__asan_init" in program().read_bytes() or b"__tsan_init" in program().read_bytes()


def memory(server):
    """What a process has for itself, in bytes: without the files that it maps."""
    for line in pathlib.Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


class MemoryWatch(threading.Thread):
    """Looks at the memory of processes until it is told to stop."""

    def __init__(self, *servers):
        super().__init__(daemon=True)
        self.servers = servers
        self.seen = []  # (time, [bytes of each])
        self._enough = threading.Event()

    def run(self):
        while not self._enough.wait(0.02):
            self.seen.append((time.monotonic(), [memory(server) for server in self.servers]))

    def growth(self, since):
        """The most that each process had after that time over what it had at first then."""
        self._enough.set()
        self.join()
        after = [sizes for when, sizes in self.seen if when >= since]
        assert len(after) > 10
        return [max(sizes) - sizes[0] for sizes in zip(*after)]


class Flood(threading.Thread):
    """Until `enough` is set: calls to one door. What was refused is not sent again.

    Each 4,000 messages go to another inbox, so that nothing is evicted. sent: how many messages;
    stored: {(user, offset): n} of what was acknowledged; refused: {code: how many}; after: the
    times that refusals named."""

    def __init__(self, enough, name, batch, size):
        super().__init__(daemon=True)
        self.enough, self.name, self.batch, self.size = enough, name, batch, size
        self.sent = 0
        self.stored, self.refused, self.after = {}, {}, []
        self.stored_at = []  # when answers came that brought some
        self.problem = None
        self.numbers = itertools.count()

    def messages(self):
        """The next batch: its numbers and its messages."""
        numbers = list(itertools.islice(self.numbers, self.batch))
        self.sent += len(numbers)
        return numbers, [
            {"user": self.user_of(n), "data": {"n": n, "fill": "x" * self.size}} for n in numbers
        ]

    def user_of(self, n):
        return f"{self.name}-{n // 4000}"

    def take(self, numbers, results):
        assert len(results) == len(numbers)
        before = len(self.stored)
        for n, result in zip(numbers, results):
            if "error" in result:
                code = result["error"]["code"]
                self.refused[code] = self.refused.get(code, 0) + 1
                if "after_ms" in result["error"]:
                    self.after.append(result["error"]["after_ms"])
            else:
                place = (self.user_of(n), result["offset"])
                assert result["ack"] == "stored" and place not in self.stored, result
                self.stored[place] = n
        if len(self.stored) > before:
            self.stored_at.append(time.monotonic())

    def answered(self):
        return len(self.stored) + sum(self.refused.values())

    def check_found(self, server):
        """No false acks: everything that was acknowledged is there, as it was sent."""
        found = {}
        for user in {user for user, _ in self.stored}:
            found.update({(user, offset): n for offset, n in inbox(server, user).items()})
        missing = {place for place, n in self.stored.items() if found.get(place) != n}
        assert not missing, f"{len(missing)} of {len(self.stored)} are not there: {min(missing)}"

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
            numbers, messages = self.messages()
            connection.request("POST", "/v1/publish", json.dumps(messages), HEADERS)
            answer = connection.getresponse()
            body = json.loads(answer.read())
            self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
            if answer.status in (429, 503):
                self.retry_after.append(int(answer.getheader("Retry-After")))
            self.take(numbers, body["results"] if "results" in body else [body] * len(numbers))
        connection.close()


class DoorFlood(Flood):
    """A DEALER that keeps `window` calls under way and does not slow down when it is refused."""

    def __init__(self, enough, server, window, *args):
        super().__init__(enough, *args)
        self.endpoint, self.window = server.doors["rpc"], window
        self.under_way = {}

    def receive(self, socket):
        answer = msgpack.unpackb(socket.recv())
        numbers = self.under_way.pop(answer["req"])
        self.take(numbers, answer["results"] if "results" in answer else [answer] * len(numbers))

    def flood(self):
        context = zmq.Context()
        with context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.sndtimeo = socket.rcvtimeo = 30000
            socket.connect(self.endpoint)
            for req in itertools.count(1):
                if self.enough.is_set():
                    break
                self.under_way[req], messages = self.messages()
                call = {"op": "publish", "req": req, "messages": messages}
                socket.send(msgpack.packb(call))
                while len(self.under_way) >= self.window or socket.poll(0):
                    self.receive(socket)
            while self.under_way:
                self.receive(socket)
        context.term()


class PushFlood(Flood):
    """Nobody tells it anything, but the socket when it is full."""

    def __init__(self, enough, server, *args):
        super().__init__(enough, *args)
        self.endpoint = server.doors["pull"]
        self.waited = 0

    def flood(self):
        context = zmq.Context()
        with context.socket(zmq.PUSH) as socket:
            socket.linger = 30000
            socket.sndtimeo = 30000
            socket.connect(self.endpoint)
            while not self.enough.is_set():
                payload = msgpack.packb(self.messages()[1])
                try:
                    socket.send(payload, zmq.DONTWAIT)
                except zmq.Again:
                    self.waited += 1
                    socket.send(payload)
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
