"""The inbox: stored before it is acknowledged, replayed until a device has it, one for all devices."""

import pytest

from conservation import check_conservation
from native import Native
from rawws import PING, PONG, RawWebSocket
from tokens import token

CONFIG = {
    "routes": [
        {
            "path": "/inbox/{user}",
            "dialect": "raw",
            "identity": "url",
            "join": ["user:{identity}"],
            "inbound": "ignore",
        }
    ],
    # Of what is optional nothing but this: settled by an ack, which is also a read mark.
    "groups": [{"match": "user:{id}", "durable": True}],
}


@pytest.fixture
def server(start_peal):
    return start_peal(CONFIG)


def publish(server, data, user="alice", **fields):
    answer = server.api.post("/v1/publish", {"user": user, "data": data, **fields})
    assert answer.status == 200, answer
    return answer.json


def connect(server, user="alice", **hello):
    return Native(server.url, token(user), **hello)


def listing(server, user="alice", query=""):
    answer = server.api.get(f"/v1/inbox/{user}{query}")
    assert answer.status == 200, answer
    return answer.json


def up_to_now(server, client, user="alice"):
    """Everything that comes before a message of now: a live message never overtakes a replay."""
    end = publish(server, "end", user)
    frames = [client.next()]
    while frames[-1].get("id") != end["id"]:
        frames.append(client.next())
    return frames[:-1]


def shape(frames):
    """offset of messages, (from, to) of what is skipped."""
    return [f["offset"] if f["type"] == "message" else (f["from"], f["to"]) for f in frames]


def ack(client, upto):
    """Acks, and waits until the server has it: all devices of the user are told."""
    client.send("ack", upto=upto)
    state = client.next("state")
    assert (state["mark"], state["upto"]) == ("ack", upto)
    return state


def test_publish_is_stored_when_it_is_acknowledged(server):
    receipt = publish(server, {"n": 1})
    assert receipt["ack"] == "stored"
    server.kill()
    server.start()
    (message,) = listing(server)["messages"]
    assert (message["id"], message["offset"]) == (receipt["id"], receipt["offset"])
    assert message["data"] == {"n": 1}


def test_messages_not_acked_are_replayed_in_order_on_every_connect(server):
    for n in range(4):
        publish(server, n)
    for count in (4, 5):
        with connect(server) as client:
            assert client.welcome["inbox"]["unread"] == count
            messages = up_to_now(server, client)
            assert [m["offset"] for m in messages] == list(range(1, count + 1))
            assert [m["data"] for m in messages][:4] == [0, 1, 2, 3]
            assert all(m["replayed"] for m in messages)


def test_messages_acked_are_not_replayed(server):
    for n in range(5):
        publish(server, n)
    with connect(server) as client:
        client.messages(5)
        state = ack(client, 3)
        assert state["unread"] == 2
    with connect(server) as client:
        assert client.welcome["inbox"]["unread"] == 2
        assert shape(up_to_now(server, client)) == [(1, 3), 4, 5]


def test_single_offsets_can_be_acked(server):
    for n in range(4):
        publish(server, n)
    with connect(server) as client:
        client.messages(4)
        client.send("ack", offsets=[2, 4])
        assert client.next("state")["offsets"] == [2, 4]
    with connect(server) as client:
        assert shape(up_to_now(server, client)) == [1, (2, 2), 3, (4, 4)]


def test_live_message_carries_the_unread_count(server):
    with connect(server) as client:
        assert client.welcome["inbox"]["unread"] == 0
        publish(server, 1)
        publish(server, 2)
        first, second = client.messages(2)
        assert (first["unread"], second["unread"]) == (1, 2)
        assert first["rev"] < second["rev"]


def test_read_on_one_device_is_told_to_the_other(server):
    for n in range(3):
        publish(server, n)
    with connect(server, device="phone") as phone, connect(server, device="desk") as desk:
        phone.messages(3)
        desk.messages(3)
        done = phone.command("read", upto=2)
        state = desk.next("state")
        assert (state["mark"], state["upto"], state["unread"]) == ("read", 2, 1)
        assert (done["unread"], done["rev"]) == (1, state["rev"])
        assert phone.command("read", all=True)["unread"] == 0
        assert desk.next("state")["unread"] == 0


def test_ack_that_changes_nothing_is_not_told(server):
    publish(server, 1)
    with connect(server) as client:
        client.messages(1)
        rev = ack(client, 1)["rev"]
        client.send("ack", upto=1)
        assert client.command("read", all=True)["rev"] == rev


def test_resume_by_position_brings_what_came_after_also_when_acked(server):
    for n in range(6):
        publish(server, n)
    with connect(server) as client:
        client.messages(6)
        ack(client, 6)
        epoch = client.welcome["inbox"]["epoch"]
    with connect(server, resume={"inbox": [epoch, 2]}) as client:
        assert client.welcome["inbox"]["recovered"] == "full"
        assert shape(up_to_now(server, client)) == [3, 4, 5, 6]


def test_resume_at_a_position_of_another_time_is_a_gap(server):
    for n in range(3):
        publish(server, n)
    with connect(server, resume={"inbox": ["abc", 2]}) as client:
        assert client.welcome["inbox"]["recovered"] == "gap"
        gap = client.next()
        assert (gap["type"], gap["why"]) == ("gap", "epoch")
        assert [m["offset"] for m in client.messages(3)] == [1, 2, 3]


def test_inbox_command_pages_back_through_the_messages(server):
    for n in range(7):
        publish(server, n)
    with connect(server) as client:
        page = client.command("inbox", limit=3)
        offsets = [m["offset"] for m in page["messages"]]
        while "next" in page:
            page = client.command("inbox", limit=3, before=page["next"])
            offsets += [m["offset"] for m in page["messages"]]
        assert offsets == [7, 6, 5, 4, 3, 2, 1]
        client.command("read", offsets=[2, 6])
        page = client.command("inbox", unread_only=True)
        assert [m["offset"] for m in page["messages"]] == [7, 5, 4, 3, 1]


def test_message_id_makes_a_retry_safe_also_across_a_restart(server):
    first = publish(server, "once", message_id="order-1")
    assert "duplicate" not in first
    again = publish(server, "once", message_id="order-1")
    server.kill()
    server.start()
    after = publish(server, "once", message_id="order-1")
    for retry in (again, after):
        assert retry["duplicate"] is True
        assert (retry["epoch"], retry["offset"]) == (first["epoch"], first["offset"])
    other = publish(server, "for another inbox", user="bob", message_id="order-1")
    assert "duplicate" not in other
    with connect(server) as client:
        (message,) = up_to_now(server, client)
        assert message["id"] == "order-1"


def test_restart_keeps_epoch_offsets_and_unread(server):
    before = publish(server, 1)
    with connect(server) as client:
        client.messages(1)
        ack(client, 1)
    publish(server, 2)
    server.kill()
    server.start()
    after = publish(server, 3)
    assert (after["epoch"], after["offset"]) == (before["epoch"], 3)
    with connect(server) as client:
        assert client.welcome["inbox"]["unread"] == 2
        assert shape(up_to_now(server, client)) == [(1, 1), 2, 3]


# What goes, and how that is told


def test_messages_over_the_count_are_evicted_and_told_as_a_gap(start_peal):
    server = start_peal({"groups": [{"match": "user:{id}", "durable": True, "keep": {"messages": 3}}]})
    for n in range(5):
        publish(server, n)
    with connect(server) as client:
        assert client.welcome["inbox"]["unread"] == 3
        # Not up to a message of now: that one would take the place of another.
        gap, *messages = [client.next() for _ in range(4)]
        assert (gap["type"], gap["why"]) == ("gap", "evicted")
        assert (gap["from"], gap["to"]) == (1, 2)
        assert shape(messages) == [3, 4, 5]


def test_message_past_its_ttl_is_skipped(server):
    publish(server, "stays")
    publish(server, "goes", ttl_ms=1)
    publish(server, "stays too")
    with connect(server) as client:
        assert shape(up_to_now(server, client)) == [1, (2, 2), 3]


def test_message_with_a_collapse_key_replaces_the_older_one(server):
    publish(server, "mail")
    publish(server, "10 %", collapse="upload")
    epoch = publish(server, "mail")["epoch"]
    with connect(server) as live:
        live.messages(3)
        publish(server, "50 %", collapse="upload")
        publish(server, "90 %", collapse="upload")
        assert [m["data"] for m in live.messages(2)] == ["50 %", "90 %"]
    server.kill()
    server.start()
    assert [m["data"] for m in listing(server)["messages"]] == ["90 %", "mail", "mail"]
    publish(server, "done", collapse="upload")
    with connect(server) as client:
        assert client.welcome["inbox"]["unread"] == 3
        assert shape(up_to_now(server, client)) == [1, (2, 2), 3, (4, 5), 6]
    with connect(server, resume={"inbox": [epoch, 4]}) as second:  # it has the second progress
        assert shape(up_to_now(server, second)) == [(5, 5), 6, 7]
    (metrics,) = check_conservation(server)
    assert metrics["peal_store_collapsed_total"] == 1  # since the last start


def test_ack_leaves_unread_what_is_kept_until_it_is_read(start_peal):
    policy = {"match": "user:{id}", "durable": True, "keep": {"until": "read"}}
    server = start_peal({"groups": [policy]})
    for n in range(3):
        publish(server, n)
    with connect(server) as client:
        client.messages(3)
        assert ack(client, 3)["unread"] == 3
        assert client.command("read", upto=1)["unread"] == 2
    with connect(server) as client:
        assert client.welcome["inbox"]["unread"] == 2
        assert [m["read"] for m in client.command("inbox")["messages"]] == [False, False, True]


def test_inbox_of_4000_messages_is_replayed_as_a_whole(start_peal):
    keep = {"messages": 8192, "bytes": "64MiB"}
    server = start_peal({"groups": [{"match": "user:{id}", "durable": True, "keep": keep}]})
    text = "x" * 1000
    for start in range(0, 4000, 500):
        batch = [{"user": "alice", "text": text} for _ in range(500)]
        results = server.api.post("/v1/publish", batch).json["results"]
        assert [r["offset"] for r in results] == list(range(start + 1, start + 501))
    with connect(server) as client:
        assert shape(up_to_now(server, client)) == list(range(1, 4001))


# The dialect without an ack


def recv_until_ping(ws):
    """Messages up to a ping, which is not answered."""
    messages = []
    while (frame := ws.recv_frame()).opcode != PING:
        messages.append(frame.payload.decode())
    return messages, frame.payload


def test_raw_client_that_answers_the_ping_has_acked(server):
    for n in range(3):
        publish(server, n)
    with connect(server, resume={"inbox": ["0", 0]}) as watcher:
        with RawWebSocket(server.url, "/inbox/alice") as ws:
            messages, payload = recv_until_ping(ws)
            assert messages == ["0", "1", "2"]
            ws.send_frame(payload, PONG)
            state = watcher.next("state")
            assert (state["mark"], state["upto"], state["unread"]) == ("ack", 3, 0)
    with connect(server) as client:
        assert shape(up_to_now(server, client)) == [(1, 3)]


def test_raw_client_that_does_not_answer_gets_the_messages_again(server):
    for n in range(3):
        publish(server, n)
    for _ in range(2):
        with RawWebSocket(server.url, "/inbox/alice") as ws:
            assert recv_until_ping(ws)[0] == ["0", "1", "2"]


def test_raw_client_cannot_ack_what_it_was_not_asked_for(server):
    publish(server, 1)
    with RawWebSocket(server.url, "/inbox/alice") as ws:
        recv_until_ping(ws)
        for lie in (b"99", b"1 ", b"-1", b"x" * 125):
            ws.send_frame(lie, PONG)
        ws.send_frame(b"still here", PING)
        while (frame := ws.recv_frame()).opcode != PONG:
            pass
        assert frame.payload == b"still here"
    assert listing(server)["unread"] == 1
