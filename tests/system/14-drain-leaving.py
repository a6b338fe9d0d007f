"""SIGTERM: a node lets its clients go by and by, a router stores what it has taken."""

import itertools
import signal

import msgpack
import pytest
import zmq

from leaving import END_S, GROUPS, config, in_background
from native import Native
from peal import Peal, event_fields
from rawws import RawWebSocket
from tokens import token

# Phases


def ready(node):
    return node.api.get("/readyz").status


def test_readiness_goes_first_then_new_clients_are_refused_then_it_ends(start_cluster):
    _, (node,) = start_cluster(1, config("2s", "3s", workers=2))
    early = Native(node.url, token("early"))
    mute = RawWebSocket(node.url, "/r/mute")
    assert ready(node) == 200
    result = in_background(node)
    while ready(node) == 200:
        assert result() is None
    assert node.api.get("/livez").status == 200
    # While it settles everything goes on.
    late = Native(node.url, token("late"))
    assert node.api.post("/v1/publish", {"user": "early", "data": 1}).status == 200
    assert early.next("message")["data"] == 1
    assert not [frame for frame in early.frames if frame["type"] == "goaway"]

    for client in (early, late):
        slot = client.next("goaway")
        assert 0 <= slot["in_ms"] and slot["in_ms"] + slot["spread_ms"] <= 3000
    # Nobody new, but those who are here go on until their slots, and so do backends.
    with pytest.raises(ConnectionRefusedError):
        while result() is None:
            try:
                node.web.connect().close()
            except ConnectionResetError:
                pass  # it was waiting to be accepted when the listener closed
    assert result() is None
    assert node.api.get("/livez").status == 200
    receipt = node.api.post("/v1/publish", {"user": "late", "data": 2})
    assert (receipt.status, receipt.headers["connection"]) == (200, "close")
    assert mute.recv_close() == (4301, "drain")
    assert [early.wait_closed(), late.wait_closed()] == [4301, 4301]
    code, seconds = result(10)
    assert code == 0 and seconds <= 2 + 3 + END_S


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_hurries(start_cluster, second):
    _, (node,) = start_cluster(1, config("60s", "60s"))
    clients = [Native(node.url, token(f"user-{n}")) for n in range(10)]
    raw = RawWebSocket(node.url, "/r/raw")
    result = in_background(node)
    node.wait_for("drain.phase", phase="settle")
    assert ready(node) == 503
    node.signal(second)
    assert [client.wait_closed() for client in clients] == [4301] * 10
    assert raw.recv_close() == (4301, "drain")
    raw.sock.close()
    code, _ = result(30)
    assert code == 0


def test_second_signal_in_the_spread_hurries(start_cluster):
    _, (node,) = start_cluster(1, config("0s", "60s"))
    clients = [Native(node.url, token(f"user-{n}")) for n in range(10)]
    result = in_background(node)
    slots = [client.next("goaway")["in_ms"] for client in clients]
    assert max(slots) > 30000
    node.signal(signal.SIGTERM)
    assert [client.wait_closed() for client in clients] == [4301] * 10
    assert result(30)[0] == 0


def test_sigint_does_not_wait(start_cluster):
    _, (node,) = start_cluster(1, config("60s", "60s"))
    client = Native(node.url, token("ann"))
    node.signal(signal.SIGINT)
    assert client.wait_closed() == 4301
    assert node.exit_code() == 0
    assert not any(frame["type"] == "goaway" for frame in client.frames)


def test_sigterm_in_dev_mode_does_not_wait_by_default(start_peal):
    server = start_peal()
    del server.config["drain"]
    server.stop()
    server.start()
    client = Native(server.url, token("ann"))
    server.signal(signal.SIGTERM)
    assert client.wait_closed() == 4301
    assert server.exit_code() == 0
    assert not any(frame["type"] == "goaway" for frame in client.frames)


def test_client_that_stops_reading_does_not_hold_up_the_end(start_cluster):
    limits = {"queue": "64MiB", "queue_messages": 1000}
    _, (node,) = start_cluster(1, config("0s", "1s", limits=limits))
    deaf = [RawWebSocket(node.url, f"/r/deaf{n}", rcvbuf=4096) for n in range(3)]
    for client in deaf:
        for _ in range(100):
            client.send_text("x" * 60000)  # echoed, and not read
    stuck = Native(node.url, token("stuck"))
    result = in_background(node)
    code, seconds = result(30)
    assert code == 0
    assert seconds <= 0 + 1 + END_S
    assert stuck.wait_closed() == 4301
    closed = [fields for event, fields in map(event_fields, node.log.lines) if event == "conn.closed"]
    assert [fields["reason"] for fields in closed] == ["drain"] * 4
    assert sum(int(fields["queue_bytes"]) > 0 for fields in closed) == 3
    for client in deaf:
        client.sock.close()


def test_backend_that_is_connected_but_silent_does_not_hold_up_the_end(start_cluster):
    _, (node,) = start_cluster(1, config("0s", "0s"))
    silent = node.api.connect()
    result = in_background(node)
    code, seconds = result(30)
    assert code == 0 and seconds <= END_S
    silent.close()


def test_node_stays_for_its_last_client_while_others_leave(start_cluster):
    _, (node,) = start_cluster(1, config("0s", "2s"))
    clients = [Native(node.url, token(f"user-{n}")) for n in range(20)]
    result = in_background(node)
    slots = [client.next("goaway") for client in clients]
    assert len(slots) == 20
    for client in clients[:19]:
        client.close()
    # The last one is still here, so the node is.
    seen = clients[19].command("ping")
    assert seen["type"] == "pong"
    assert clients[19].wait_closed() == 4301
    assert result(30)[0] == 0


# Routers


def test_router_stopped_under_publishes_has_stored_all_that_it_acknowledged(start_cluster):
    router, _ = start_cluster(0, config())
    for life in range(3):
        user = f"ann-{life}"
        acked = []
        context = zmq.Context()
        sockets = []
        for _ in range(4):
            door = context.socket(zmq.DEALER)
            door.setsockopt(zmq.LINGER, 0)
            door.connect(router.doors["rpc"])
            sockets.append(door)
        poller = zmq.Poller()
        for door in sockets:
            poller.register(door, zmq.POLLIN)
        numbers = itertools.count()
        sent = {}

        def publish(door):
            n = next(numbers)
            sent[n] = f"{life}-{n}"
            message = {"user": user, "data": 1, "message_id": sent[n]}
            door.send(msgpack.packb({"op": "publish", "req": n, "messages": [message]}))

        for door in sockets:
            for _ in range(8):
                publish(door)
        result = None
        while True:
            ready_doors = dict(poller.poll(200))
            for door in ready_doors:
                answer = msgpack.unpackb(door.recv())
                (receipt,) = answer["results"]
                assert receipt.get("ack") == "stored", receipt
                acked.append(receipt["id"])
                if result is None or result() is None:
                    publish(door)
            if len(acked) >= 200 and result is None:
                result = in_background(router)
            if result is not None and result() is not None and not ready_doors:
                break
        assert result()[0] == 0 and result()[1] <= END_S
        assert len(acked) < len(sent)  # it was stopped in the midst of them
        for door in sockets:
            door.close()
        context.term()
        router.start()
        found = stored(router, user)
        assert [name for name in acked if name not in found] == []


def stored(router, user):
    """The ids of all messages of the inbox, by way of a node that reads them."""
    settings = {"groups": GROUPS, "cluster": {"routers": [router.doors]}}
    found, before = set(), None
    with Peal(router.directory / f"reader-{user}", settings, verb="node") as node:
        while True:
            query = "" if before is None else f"&before={before}"
            page = node.api.get(f"/v1/inbox/{user}?limit=256{query}").json
            found |= {message["id"] for message in page["messages"]}
            before = page.get("next")
            if before is None:
                return found
