"""One router, two nodes, three processes: what one of them does must not show at the edge."""

import signal

import pytest

from conservation import check_conservation
from doors import Push, Rpc
from native import Error, Native
from peal import publish
from tokens import token

CONFIG = {
    "groups": [
        {"match": "room:*", "history": {"messages": 1000}, "join": "anyone", "publish": "members"}
    ],
}


def collect(client, count):
    return [(m["offset"], m["data"]) for m in client.messages(count)]


def up_to_all(client, *receipts):
    """Everything that comes until the messages of these receipts are among it."""
    frames, missing = [], {receipt["id"] for receipt in receipts}
    while missing:
        frames.append(client.next())
        missing.discard(frames[-1].get("id"))
    return frames


def check_room_goes_on(frames, receipt, last):
    """The group was in memory only: it goes on, or its loss is told before it begins anew."""
    room = [f for f in frames if f.get("group") == "room:1"]
    new = [f for f in room if f["type"] == "gap" or f["data"] == "after"]
    assert new[-1]["offset"] == receipt["offset"]
    if receipt["offset"] == last + 1:
        assert len(new) == 1
    else:
        assert [f["type"] for f in new] == ["gap", "message"]
        assert (new[0]["why"], new[0]["epoch"]) == ("epoch", receipt["epoch"])


@pytest.fixture
def cluster(start_cluster):
    router, nodes = start_cluster(2, CONFIG)
    yield router, nodes
    check_conservation(router, *nodes)


def test_publish_by_push_and_http_reaches_clients_on_both_nodes(cluster):
    router, (a, b) = cluster
    with Native(a.url, token("ann"), groups=["room:1"]) as ann:
        with Native(b.url, token("bob"), groups=["room:1"]) as bob:
            with Push(router.doors["pull"]) as push:
                push.send({"group": "room:1", "data": "push"})
            first = ann.next("message")
            assert first["data"] == "push" and bob.next("message") == first

            publish(a, group="room:1", data={"by": "http"})
            second = ann.next("message")
            assert second["data"] == {"by": "http"} and bob.next("message") == second

            ann.command("publish", group="room:1", data={"by": "ann"})
            third = bob.next("message")
            assert third["from"] == "ann" and ann.next("message") == third
            assert [first["offset"], second["offset"], third["offset"]] == [1, 2, 3]


def test_inbox_is_one_for_both_nodes(cluster):
    _, (a, b) = cluster
    with Native(a.url, token("ann")) as phone, Native(b.url, token("ann")) as desk:
        receipt = publish(b, user="ann", data=1)
        assert receipt["ack"] == "stored"
        assert phone.next("message")["offset"] == desk.next("message")["offset"] == 1
        phone.command("read", upto=1)
        state = desk.next("state")
        assert (state["mark"], state["upto"], state["unread"]) == ("read", 1, 0)


def test_router_killed_and_started_again_is_told_and_healed(cluster):
    router, (a, b) = cluster
    ann = Native(a.url, token("ann"), groups=["room:1"])
    bob = Native(b.url, token("bob"), groups=["room:1"])
    before = publish(a, user="ann", data="before")
    for n in range(5):
        publish(a, group="room:1", data=n)
    assert collect(bob, 5) == [(n + 1, n) for n in range(5)]

    router.kill()
    assert ann.next("degraded")["on"] is True
    assert bob.next("degraded")["on"] is True
    refused = a.api.post("/v1/publish", {"group": "room:1", "data": "lost"})
    assert (refused.status, refused.json["error"]["code"]) == (503, "no_router")
    refused = b.api.post("/v1/publish", {"user": "ann", "data": "lost"})
    assert (refused.status, refused.json["error"]["code"]) == (503, "no_router")

    router.start()
    assert ann.next("degraded")["on"] is False
    assert bob.next("degraded")["on"] is False
    after = publish(b, user="ann", data="after")
    assert (after["epoch"], after["offset"]) == (before["epoch"], before["offset"] + 1)
    room = publish(b, group="room:1", data="after")
    frames = up_to_all(ann, after, room)
    inbox = [f["data"] for f in frames if f["type"] == "message" and f["group"] == "user:ann"]
    assert inbox == ["before", "after"]
    check_room_goes_on(frames, room, last=5)
    check_room_goes_on(up_to_all(bob, room), room, last=5)
    ann.close()
    bob.close()


def test_client_that_comes_while_the_router_is_away_is_welcomed_and_joined_later(cluster):
    router, (a, _) = cluster
    with Native(a.url, token("watch")) as watch:
        router.kill()
        assert watch.next("degraded")["on"] is True
        with Native(a.url, token("late"), groups=["room:1"]) as late:
            assert late.welcome["groups"]["room:1"] == {"recovered": "pending"}
            assert late.next("degraded")["on"] is True
            with pytest.raises(Error) as refused:
                late.command("publish", group="room:1", data=1)
            assert refused.value.code == "no_router"
            assert refused.value.frame["retry"] == "later"

            router.start()
            joined = {late.next("joined")["group"] for _ in range(2)}
            assert joined == {"room:1", "user:late"}
            late.command("publish", group="room:1", data=2)
            assert late.next("message")["data"] == 2


def test_acknowledged_door_of_a_router_stores_without_any_node(start_cluster):
    router, _ = start_cluster(0, CONFIG)
    with Rpc(router.doors["rpc"]) as rpc:
        assert rpc.publish(user="ann", data=1)["ack"] == "stored"
        assert rpc.publish(group="room:1", data=1)["ack"] == "routed"


def test_node_killed_then_client_resumes_at_the_other_without_loss(cluster):
    _, (a, b) = cluster
    ann = Native(a.url, token("ann"), groups=["room:1"])
    for n in range(10):
        publish(b, group="room:1", data=n)
        publish(b, user="ann", data=n)
    got = ann.messages(20)
    positions = {
        "groups": {"room:1": [ann.welcome["groups"]["room:1"]["epoch"], 10]},
        "inbox": [ann.welcome["inbox"]["epoch"], 10],
    }
    a.kill()
    ann.wait_closed()
    for n in range(10, 20):
        publish(b, group="room:1", data=n)
        publish(b, user="ann", data=n)

    with Native(b.url, token("ann"), resume=positions) as again:
        assert again.welcome["groups"]["room:1"]["recovered"] == "full"
        assert again.welcome["inbox"]["recovered"] == "full"
        publish(b, group="room:1", data=20)
        publish(b, user="ann", data=20)
        got += again.messages(22)
        assert again.settled() == []
    for group in ("room:1", "user:ann"):
        mine = [(m["offset"], m["data"]) for m in got if m["group"] == group]
        assert mine == [(n + 1, n) for n in range(21)]


def test_router_that_sleeps_is_told_and_nothing_is_lost_when_it_wakes(cluster):
    router, (a, _) = cluster
    with Native(a.url, token("ann"), groups=["room:1"]) as ann:
        publish(a, group="room:1", data=0)
        publish(a, user="ann", data=0)
        router.signal(signal.SIGSTOP)
        assert ann.next("degraded")["on"] is True
        answer = a.api.post("/v1/publish", {"group": "room:1", "data": "lost"})
        assert answer.status == 503
        router.signal(signal.SIGCONT)
        assert ann.next("degraded")["on"] is False
        publish(a, group="room:1", data=1)
        publish(a, user="ann", data=1)
        frames = ann.messages(4)
        assert [m["data"] for m in frames if m["group"] == "room:1"] == [0, 1]
        assert [m["data"] for m in frames if m["group"] == "user:ann"] == [0, 1]
        assert ann.settled() == []


def test_node_that_sleeps_catches_up_when_it_wakes(cluster):
    router, (a, b) = cluster
    with Native(a.url, token("ann"), groups=["room:1"]) as ann:
        with Native(b.url, token("bob"), groups=["room:1"]) as bob:
            a.signal(signal.SIGSTOP)
            # Longer than a node may be silent: the router has forgotten it when it wakes.
            router.wait_for("node.down", reason="silent")
            for n in range(500):
                publish(b, group="room:1", data=n)
                publish(b, user="ann", data=n)
            assert collect(bob, 500) == [(n + 1, n) for n in range(500)]
            a.signal(signal.SIGCONT)
            messages = ann.messages(1000)
            for group in ("room:1", "user:ann"):
                mine = [(m["offset"], m["data"]) for m in messages if m["group"] == group]
                assert mine == [(n + 1, n) for n in range(500)]


def test_node_started_again_serves_its_clients_again(cluster):
    _, (a, b) = cluster
    a.kill()
    a.start()
    with Native(a.url, token("ann"), groups=["room:1"]) as ann:
        publish(b, group="room:1", data="back")
        assert ann.next("message")["data"] == "back"
