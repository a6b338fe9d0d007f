"""After whatever happens, the counters of every process that lives add up."""

import os
import threading
import time

import pytest

from conservation import check_conservation, wait_accepted
from doors import Push
from metrics import read_metrics
from native import Native
from pressure import ENV, DoorFlood, HttpFlood, PushFlood
from rawws import RawWebSocket
from tokens import token

CONFIG = {
    "routes": [{"path": "/live", "dialect": "raw", "identity": "anonymous", "join": ["live"]}],
    "groups": [
        {"match": "live", "join": "anyone", "history": {"messages": 0}},
        {"match": "kept", "join": "anyone", "history": {"messages": 100}},
        {"match": "user:{id}", "durable": True, "keep": {"messages": 8192, "bytes": "1GiB"}},
    ],
}


class Talk(threading.Thread):
    """Publishes to the live groups until it is enough; everybody's queue sees a lot of it."""

    def __init__(self, enough, router):
        super().__init__(daemon=True)
        self.enough, self.endpoint, self.sent = enough, router.doors["pull"], 0

    def run(self):
        text = "x" * 8000
        with Push(self.endpoint) as push:
            while not self.enough.wait(0.002):
                push.send([{"group": "live", "data": text}, {"group": "kept", "data": text}])
                self.sent += 2


def reader_until(enough, url, name):
    """A client that reads, and comes back when it is told to go."""

    def run():
        while not enough.is_set():
            try:
                with Native(url, token(name), groups=["kept"]) as client:
                    while not enough.is_set():
                        client.next(timeout=0.2)
            except TimeoutError:
                pass
            except Exception:
                enough.wait(0.05)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_node_killed_between_slow_readers_and_a_flood_leaves_sums_that_agree(start_cluster):
    router, (one, two) = start_cluster(2, CONFIG, env=ENV)
    enough = threading.Event()
    slow = [RawWebSocket(node.url, "/live", rcvbuf=4096) for node in (one, two) for _ in range(10)]
    readers = [reader_until(enough, node.url, node.directory.name) for node in (one, two)]
    talk = Talk(enough, router)
    floods = [
        HttpFlood(enough, one, "http", 50, 200),
        DoorFlood(enough, router, 100, "door", 100, 200),
        PushFlood(enough, router, "push", 100, 200),
    ]
    for thread in [talk, *floods]:
        thread.start()
    for _ in range(3):
        enough.wait(0.7)
        two.kill()
        enough.wait(0.3)
        two.start()
    enough.set()
    for flood in floods:
        flood.done()
    for thread in [talk, *readers]:
        thread.join(30)
    for client in slow:
        client.sock.close()

    wait_accepted(router, talk.sent + sum(flood.sent for flood in floods))
    _, first, second = check_conservation(router, one, two)
    assert first['peal_connections_closed_total{reason="slow"}'] >= 1
    assert second["peal_store_stored_total"] == 0  # a node stores nothing
    for flood in floods[:2]:
        flood.check_found(one)


def test_router_killed_under_a_flood_finds_what_it_had_and_goes_on(start_cluster):
    router, (node,) = start_cluster(1, CONFIG, env=ENV)
    enough = threading.Event()
    flood = HttpFlood(enough, node, "http", 100, 200)
    push = PushFlood(enough, router, "push", 50, 200)
    flood.start()
    push.start()
    deadline = time.monotonic() + 20
    while len(flood.stored) < 300 and time.monotonic() < deadline and flood.is_alive():
        time.sleep(0.02)
    router.kill()
    enough.set()
    router.start()
    flood.done(60)
    push.done(60)
    assert set(flood.refused) <= {"no_router", "timeout", "queue_full", "rate_limited"}
    deadline = time.monotonic() + 30
    while (answer := node.api.post("/v1/publish", {"user": "last", "data": 1})).status != 200:
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)
    metrics = check_conservation(router, node)[0]
    assert metrics["peal_store_found_total"] >= len(flood.stored) >= 300
    flood.check_found(node)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_full_disk_refuses_counts_and_recovers(start_peal, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    # In a namespace of its own: the disk goes with the process.
    mount = 'mount -t tmpfs -o size=12m tmpfs "$0" && exec "$@"'
    keep = {"messages": 8192, "bytes": "1GiB", "settled": "0s"}
    config = {
        **CONFIG,
        "data": str(disk / "data"),
        "groups": [{"match": "user:{id}", "durable": True, "keep": keep}, *CONFIG["groups"][:2]],
    }
    server = start_peal(config, wrapper=["unshare", "-m", "sh", "-c", mount, str(disk)])
    with Native(server.url, token("ann"), groups=["live"]) as ann:
        stored = refused = 0
        batch = [{"user": f"u{n}", "data": "x" * 8000} for n in range(50)]
        while refused < 200:
            results = server.api.post("/v1/publish", batch).json["results"]
            codes = [result["error"]["code"] for result in results if "error" in result]
            assert set(codes) <= {"store_full"}
            refused += len(codes)
            stored += len(results) - len(codes)
            assert stored < 5000, "a disk of 12 MiB is never full"
        # What needs no disk goes on.
        assert server.api.post("/v1/publish", {"group": "live", "data": 1}).status == 200
        assert ann.next("message")["data"] == 1
        metrics = check_conservation(server)[0]
        assert metrics["peal_store_stored_total"] == metrics["peal_store_present"] == stored
        assert metrics['peal_publishes_refused_total{reason="store_full"}'] == refused

        # What was read makes room, without a restart.
        for n in range(50):
            answer = server.api.post(f"/v1/inbox/u{n}/read", {"all": True})
            assert answer.status == 200
        deadline = time.monotonic() + 20
        while (answer := server.api.post("/v1/publish", batch[0])).status == 507:
            assert time.monotonic() < deadline, "the store stays full"
            time.sleep(0.1)
        assert answer.json["ack"] == "stored"
    metrics = check_conservation(server)[0]
    assert metrics["peal_store_settled_total"] > 0
    assert read_metrics(server)["peal_store_stored_total"] == stored + 1
