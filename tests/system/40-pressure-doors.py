"""What a publisher meets at each door when the router does not keep up."""

import contextlib
import json
import signal
import threading
import time

import msgpack
import pytest
import zmq

from command import run
from conservation import check_conservation, wait_accepted
from doors import Push, Rpc
from metrics import read_metrics
from native import Native
from peal import API_KEY, wait_until
from tokens import token

CONFIG = {
    "groups": [
        {"match": "live", "join": "anyone", "history": {"messages": 0}},
        {"match": "kept", "join": "anyone", "history": {"messages": 50000}},
        {"match": "user:{id}", "durable": True, "keep": {"messages": 8192, "bytes": "1GiB"}},
    ]
}


@contextlib.contextmanager
def stopped(server):
    """The process stands still, as in a long pause."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


def fill(socket, make):
    """Sends until the socket says EAGAIN and goes on saying so; returns how many it took."""
    count = 0
    while count < 200000:
        try:
            socket.send(make(count), zmq.DONTWAIT)
            count += 1
        except zmq.Again:
            # The kernel may take a little more of what is queued.
            if not socket.poll(300, zmq.POLLOUT):
                return count
    raise AssertionError("nothing bounds the publisher")


def test_push_to_a_router_that_stands_still_waits_and_loses_nothing(start_cluster):
    router, (node,) = start_cluster(1, CONFIG)
    with Native(node.url, token("ann"), groups=["kept"]) as ann, Push(router.doors["pull"]) as push:
        push.send({"group": "kept", "data": "first"})
        assert ann.next("message")["data"] == "first"
        with stopped(router):
            payload = "x" * 2000
            count = fill(
                push.socket, lambda n: msgpack.packb({"group": "kept", "data": {"n": n, "x": payload}})
            )
            # The high-water mark, ZeroMQ's default of 1,000, and what the two kernels hold. Who
            # writes learns of room only for many messages at once.
            assert count > 500
        received = [m["data"]["n"] for m in ann.messages(count)]
        assert received == list(range(count))
        push.send({"group": "kept", "data": "last"})
        assert ann.next("message")["data"] == "last"
    metrics = check_conservation(router, node)[0]
    assert metrics["peal_publishes_numbered_total"] == count + 2


def test_push_that_has_closed_before_the_router_reads_loses_nothing(start_cluster):
    router, _ = start_cluster(0, CONFIG)
    push = Push(router.doors["pull"])
    push.send({"user": "ann", "data": "first"})
    wait_accepted(router, 1, timeout=20)
    with stopped(router):
        with push:
            for n in range(300):  # as much as the kernels take
                push.send({"user": "ann", "data": {"n": n, "x": "x" * 1000}})
        time.sleep(3)  # longer than the beats of ZeroMQ on the router's other sockets
    wait_accepted(router, 301)
    assert check_conservation(router)[0]["peal_store_stored_total"] == 301


def test_dealer_to_a_router_that_stands_still_waits_and_is_answered(start_cluster):
    router, (node,) = start_cluster(1, CONFIG)
    with Rpc(router.doors["rpc"]) as rpc:
        assert rpc.publish(group="kept", data=1)["ack"] == "routed"

        def call(n):
            messages = [{"group": "kept", "data": {"n": n, "x": "x" * 2000}}]
            return msgpack.packb({"op": "publish", "req": n, "messages": messages})

        with stopped(router):
            count = fill(rpc.socket, call)
            assert count > 500
        for n in range(count):
            answer = msgpack.unpackb(rpc.socket.recv())
            assert answer["req"] == n
            assert answer["results"][0]["ack"] == "routed"
    metrics = check_conservation(router, node)[0]
    assert metrics["peal_publishes_numbered_total"] == count + 1


def test_http_while_the_router_stands_still_is_never_a_false_ack(start_cluster):
    router, (node,) = start_cluster(1, CONFIG)
    assert node.api.post("/v1/publish", {"user": "ann", "data": 0}).json["ack"] == "stored"
    with stopped(router):
        node.wait_for("link.silent")
        began = time.monotonic()
        answer = node.api.post("/v1/publish", {"user": "ann", "data": 1, "message_id": "m"})
        assert (answer.status, answer.json["error"]["code"]) == (503, "no_router")
        assert int(answer.headers["retry-after"]) >= 1
        assert time.monotonic() - began < 3  # it is known that nobody is there
    deadline = time.monotonic() + 20
    while answer.status == 503 and time.monotonic() < deadline:
        time.sleep(answer.json["error"].get("after_ms", 100) / 1000)
        answer = node.api.post("/v1/publish", {"user": "ann", "data": 1, "message_id": "m"})
    assert answer.json["ack"] == "stored"
    listed = node.api.get("/v1/inbox/ann").json["messages"]
    assert [m["data"] for m in listed] == [1, 0]
    check_conservation(router, node)


class Greedy:
    """A DEALER that asks for far more than one publisher may have under way, and does not read."""

    def __init__(self, endpoint, calls):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.rcvtimeo = self.socket.sndtimeo = 30000
        self.socket.connect(endpoint)
        self.calls = calls

    def send(self, user, batch=1000):
        message = {"user": user, "data": "x" * 500}
        for req in range(self.calls):
            call = {"op": "publish", "req": req, "messages": [message] * batch}
            self.socket.send(msgpack.packb(call))

    def answers(self):
        return [msgpack.unpackb(self.socket.recv()) for _ in range(self.calls)]

    def close(self):
        self.socket.close()
        self.context.term()


def test_dealer_beyond_its_credit_is_told_when_to_come_back(start_peal):
    server = start_peal(CONFIG)
    greedy = Greedy(server.doors["rpc"], 40)
    try:
        greedy.send("greedy")
        with Rpc(server.doors["rpc"]) as modest:
            # Another one at the same door is not refused because of the first one.
            receipts = [modest.publish(user="modest", data=n) for n in range(3)]
        assert [receipt["offset"] for receipt in receipts] == [1, 2, 3]
        results = [result for answer in greedy.answers() for result in answer["results"]]
        errors = [result["error"] for result in results if "error" in result]
        stored = [result for result in results if "error" not in result]
        assert len(results) == 40000
        assert len(stored) >= 8192
        assert all(result["ack"] == "stored" for result in stored)
        assert len({result["offset"] for result in stored}) == len(stored)
        assert errors, "40,000 messages at once were taken from one publisher"
        assert {error["code"] for error in errors} == {"rate_limited"}
        assert all(50 <= error["after_ms"] <= 30000 for error in errors)
        metrics = check_conservation(server)[0]
        assert metrics['peal_publishes_refused_total{reason="queue_full"}'] == len(errors)
        assert metrics["peal_publishes_waiting"] == 0

        # What was refused was not taken: the same again, later, is no duplicate.
        time.sleep(errors[-1]["after_ms"] / 1000)
        with Rpc(server.doors["rpc"]) as again:
            assert "duplicate" not in again.publish(user="greedy", data=1, message_id="again")
    finally:
        greedy.close()


def test_pub_comes_back_when_it_is_told_to(start_cluster, tmp_path):
    router, (node,) = start_cluster(1, CONFIG)
    key = tmp_path / "key"
    key.write_text(API_KEY)
    command = ["pub", "--user", "bob", "--api", node.api_url, "--key-file", key]
    address = node.api_url
    router.kill()
    node.wait_for("link.silent")
    done = run(*command, "--timeout", "200ms", "1")
    assert (done.returncode, done.stdout) == (69, "")
    assert "no_router" in done.stderr

    # It is told `later` for as long as there is no router, and then it is not.
    results = []
    asking = threading.Thread(
        target=lambda: results.append(run(*command, "--timeout", "20s", "--message-id", "m", "2"))
    )
    asking.start()
    router.start()
    asking.join(30)
    assert json.loads(results[0].stdout)["ack"] == "stored", results
    assert address == node.api_url
    listed = node.api.get("/v1/inbox/bob").json["messages"]
    assert [(m["id"], m["data"]) for m in listed] == [("m", 2)]


class Sleeper:
    """A node that does not read what it asks for."""

    BOOT = 0x5EE9

    def __init__(self, doors, group):
        self.context = zmq.Context()
        self.topic = f"n{self.BOOT:016x}".encode()
        self.xsub = self.context.socket(zmq.XSUB)
        self.dealer = self.context.socket(zmq.DEALER)
        self.dealer.identity = self.topic
        for socket in (self.xsub, self.dealer):
            socket.linger = 0
            socket.sndtimeo = socket.rcvtimeo = 30000
        self.xsub.rcvhwm, self.xsub.rcvbuf = 1, 4096
        self.xsub.sndhwm = 0  # subscriptions beyond it would be dropped
        self.xsub.connect(doors["xpub"])
        self.xsub.send(b"\x01" + self.topic)
        self.xsub.recv_multipart()  # a beat: the router knows the topic
        self.dealer.connect(doors["rpc"])
        self.dealer.send(msgpack.packb([2, 1, group.encode()]))  # JOIN

    def ask_for_beats(self, count):
        """Each new subscription is answered by one, in a batch of its own."""
        for _ in range(count):
            self.xsub.send(b"\x00" + self.topic)
            self.xsub.send(b"\x01" + self.topic)

    def close(self):
        self.xsub.close()
        self.dealer.close()
        self.context.term()


def test_node_that_does_not_read_costs_batches_that_are_counted(start_cluster):
    router, (node,) = start_cluster(1, CONFIG)
    sleeper = Sleeper(router.doors, "live")
    try:
        with Native(node.url, token("ann"), groups=["live"]) as ann, Rpc(router.doors["rpc"]) as rpc:
            for n in range(150):  # more than the two kernels hold
                rpc.publish(group="live", data={"n": n, "x": "x" * 60000})
                assert ann.next("message")["data"]["n"] == n
            # Who takes nothing at all is cut off after three seconds; this takes less than one.
            sleeper.ask_for_beats(12000)
            dropped = lambda: read_metrics(router)["peal_router_batches_dropped_total"] > 0
            wait_until(dropped, "whatever is for a node that sleeps is kept", 20)
            rpc.publish(group="live", data="now")
            assert ann.next("message")["data"] == "now"  # nobody else waits
    finally:
        sleeper.close()
    check_conservation(router, node)


@pytest.mark.parametrize("door", ["http", "dealer"])
def test_full_store_is_507_and_is_counted(start_peal, door):
    limits = {"match": "user:{id}", "durable": True, "keep": {"messages": 8192, "bytes": "1GiB"}}
    server = start_peal({"groups": [limits], "store": {"max": "16MiB"}})
    batch = [{"user": f"u{n}", "data": "x" * 20000} for n in range(100)]
    stored, refused = 0, 0
    with Rpc(server.doors["rpc"]) as rpc:
        while refused == 0:
            if door == "http":
                answer = server.api.post("/v1/publish", batch)
                results = answer.json["results"]
                assert answer.status == (200 if any("ack" in r for r in results) else 507)
            else:
                results = rpc.call(batch)["results"]
            codes = [r["error"]["code"] for r in results if "error" in r]
            assert set(codes) <= {"store_full"}
            refused += len(codes)
            stored += len(results) - len(codes)
            assert stored < 5000
    metrics = check_conservation(server)[0]
    assert metrics["peal_store_stored_total"] == stored == metrics["peal_store_present"]
    assert metrics['peal_publishes_refused_total{reason="store_full"}'] == refused
