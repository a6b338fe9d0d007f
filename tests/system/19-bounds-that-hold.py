"""Bounds bound what they should, and nobody else."""

import msgpack
import pytest
import zmq

from native import Native
from rawws import RawWebSocket
from tokens import token

CONFIG = {
    "routes": [{"path": "/live", "dialect": "raw", "identity": "anonymous", "join": ["live"]}],
    "groups": [
        {"match": "live", "join": "anyone", "history": {"messages": 0}},
        {"match": "kept", "join": "anyone", "history": {"messages": 100}},
        {"match": "user:{id}", "durable": True},
    ],
}


@pytest.fixture
def server(start_peal):
    return start_peal(CONFIG)


@pytest.mark.parametrize("count, size", [(300, 1000), (5, 60000), (10, 30000)])
def test_burst_larger_than_the_queue_reaches_who_reads(server, count, size):
    with Native(server.url, token("ann"), groups=["live"]) as ann:
        burst = [{"group": "live", "text": f"{n:06d}".ljust(size, ".")} for n in range(count)]
        assert server.api.post("/v1/publish", burst).status == 200
        assert [int(m["data"][:6]) for m in ann.messages(count)] == list(range(count))


def test_inbox_page_larger_than_the_queue_is_answered(server):
    # As JSON each character takes six bytes, more than limits.queue together.
    text = "\x01" * 60000
    with Native(server.url, token("ann")) as ann:
        answer = server.api.post("/v1/publish", {"user": "ann", "text": text})
        assert answer.status == 200
        assert ann.next("message")["data"] == text
        listed = ann.command("inbox")
        assert [m["data"] for m in listed["messages"]] == [text]


def test_expired_message_of_a_history_is_skipped(server):
    for fields in ({"ttl_ms": 1}, {}):
        answer = server.api.post("/v1/publish", {"group": "kept", "data": 1, **fields})
        assert answer.status == 200
    with Native(server.url, token("ann")) as ann:
        ann.command("join", group="kept", last=5)
        skip, message = ann.next(), ann.next()
        assert (skip["type"], skip["from"], skip["to"]) == ("skip", 1, 1)
        assert (message["type"], message["offset"]) == ("message", 2)


def test_many_commands_in_one_frame_are_all_answered(server):
    with Native(server.url, token("ann")) as ann:
        ann.send_raw("\n".join('{"type":"ping","id":"p%d"}' % n for n in range(2000)))
        pongs = [ann.next("pong")["id"] for _ in range(2000)]
        assert pongs == [f"p{n}" for n in range(2000)]


def test_full_browser_port_leaves_the_api_port_alone(server):
    idle = []
    try:
        for _ in range(2600):
            idle.append(server.web.connect())
            idle[-1].sendall(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        for _ in range(5):
            assert server.api.get("/livez").status == 200
            answer = server.api.post("/v1/publish", {"group": "live", "data": 1})
            assert answer.status == 200
        with RawWebSocket(server.url, "/live"):
            pass
    finally:
        for sock in idle:
            sock.close()


def test_data_times_targets_is_bounded_before_any_work(server):
    users = [f"u{n}" for n in range(2000)]
    answer = server.api.post("/v1/publish", {"users": users, "text": "x" * 60000})
    assert (answer.status, answer.json["error"]["code"]) == (413, "too_large")
    answer = server.api.post("/v1/publish", {"users": users, "text": "x"})
    assert answer.status == 200
    assert all(result["ack"] == "stored" for result in answer.json["results"])


def test_ack_while_the_router_is_away_is_not_forgotten(start_cluster):
    router, (node,) = start_cluster(1, CONFIG)
    with Native(node.url, token("ann")) as ann:
        assert node.api.post("/v1/publish", {"user": "ann", "data": 1}).status == 200
        message = ann.next("message")
        router.kill()
        node.wait_for("link.silent")
        ann.send("ack", upto=message["offset"])
        ann.command("ping")
        router.start()
        assert ann.next("state")["unread"] == 0
    with Native(node.url, token("ann")) as ann:
        assert ann.welcome["inbox"]["unread"] == 0
        # A replay would come before a message of now. (A skip may; it is none.)
        assert node.api.post("/v1/publish", {"user": "ann", "data": 2}).status == 200
        assert ann.next("message")["data"] == 2


def test_join_that_its_leave_overtakes_is_answered(server):
    with Native(server.url, token("ann"), groups=[]) as ann:
        ann.send_raw(
            '{"type":"join","id":"j","group":"kept"}\n{"type":"leave","id":"l","group":"kept"}'
        )
        replies = {frame["id"]: frame["type"] for frame in (ann.next(), ann.next())}
        assert replies["l"] == "left"
        assert replies["j"] in ("joined", "error")


def test_commands_behind_hello_wait_for_nothing(server):
    assert server.api.post("/v1/publish", {"user": "ann", "data": 1}).status == 200
    with Native(server.url, hello=False) as ann:
        hello = '{"type":"hello","id":1,"token":"%s"}' % token("ann")
        ann.send_raw(hello + '\n{"type":"read","id":2,"all":true}\n{"type":"inbox","id":3}')
        replies = [frame for frame in (ann.next() for _ in range(3)) if "id" in frame]
        assert "error" not in {frame["type"] for frame in replies}


def test_error_that_closes_is_told_before_the_close(server):
    with Native(server.url, token("ann")) as ann:
        for _ in range(3):
            ann.send_raw("{")
        assert [ann.next("error")["code"] for _ in range(3)] == ["bad_json"] * 3
        assert ann.wait_closed() == 4000


def test_call_without_a_body_is_a_bad_call(server):
    context = zmq.Context.instance()
    with context.socket(zmq.REQ) as door:
        door.linger = 0
        door.connect(server.doors["rpc"])
        door.send(b"")
        assert door.poll(30000)
        assert msgpack.unpackb(door.recv())["error"]["code"] == "bad_message"


def test_queue_of_one_message_is_enough_for_a_replay(start_peal):
    server = start_peal({**CONFIG, "limits": {"queue_messages": 1}})
    for n in range(3):
        assert server.api.post("/v1/publish", {"user": "ann", "data": n}).status == 200
    with Native(server.url, token("ann")) as ann:
        assert [message["data"] for message in ann.messages(3)] == [0, 1, 2]
