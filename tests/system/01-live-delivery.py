"""A message published at any door reaches everybody in its group, as it was sent and in order."""

import json

import pytest

from command import Follow, run
from doors import Push, Rpc
from native import Native
from peal import API_KEY
from rawws import RawWebSocket
from tokens import token

CONFIG = {
    "routes": [
        {
            "path": "/raw/{room}",
            "dialect": "raw",
            "identity": "anonymous",
            "join": ["{room}"],
            "inbound": "publish",
        }
    ],
}

# What a parser that prints again what it has read would change.
JSON_TEXTS = [
    "1e2",
    "1E+2",
    "0.1",
    "-0.0",
    "123456789012345678901234567890",
    "18446744073709551616",
    '"\\u4e2d\\u6587"',
    '"中文 ☃ 😀"',
    '"\\/\\t\\""',
    '{"b": 1,\t"a":[ 1 , {"深": [[[]]]} ] }',
    "[]",
    "{}",
    "true",
    "null",
    '""',
]


@pytest.fixture
def server(start_peal):
    return start_peal(CONFIG)


@pytest.fixture
def alice(server):
    with Native(server.url, token("alice"), groups=["room"]) as client:
        yield client


def open_raw(server, room):
    """A raw client that is in the room: it has seen a message of its own."""
    client = RawWebSocket(server.url, f"/raw/{room}")
    client.send_text("here")
    assert client.recv_message() == "here"
    return client


class NativeText:
    """A native client that shows the text of the frames, not what a parser makes of them."""

    def __init__(self, server, group):
        self.ws = RawWebSocket(server.url, "/v1/ws", protocols=["peal.v1.json"])
        hello = {"type": "hello", "id": 1, "token": token("text"), "groups": [group]}
        self.ws.send_text(json.dumps(hello))
        assert json.loads(self.ws.recv_message())["type"] == "welcome"

    def recv(self):
        return self.ws.recv_message()


def test_http_publish_reaches_native_and_raw_clients(server, alice):
    raw = open_raw(server, "room")
    assert alice.next("message")["data"] == "here"

    receipt = server.api.post("/v1/publish", {"group": "room", "data": {"n": 1}}).json
    assert receipt["ack"] == "routed" and receipt["group"] == "room"
    message = alice.next("message")
    assert message["data"] == {"n": 1}
    assert (message["id"], message["offset"]) == (receipt["id"], receipt["offset"])
    assert raw.recv_message() == '{"n": 1}'


@pytest.mark.parametrize("send", ["send", "send_json"])
def test_push_publish_reaches_native_and_raw_clients(server, alice, send):
    raw = open_raw(server, "room")
    alice.next("message")
    with Push(server.doors["pull"]) as push:
        one = {"group": "room", "event": "greeting", "data": {"n": [1, None, "中"]}}
        getattr(push, send)(one)
        getattr(push, send)([{"group": "room", "data": 2}, {"groups": ["room"], "data": 3}])

    first, second, third = alice.messages(3)
    assert first["data"] == {"n": [1, None, "中"]} and first["event"] == "greeting"
    assert (second["data"], third["data"]) == (2, 3)
    assert json.loads(raw.recv_message()) == {"n": [1, None, "中"]}
    assert [raw.recv_message(), raw.recv_message()] == ["2", "3"]


@pytest.mark.parametrize("delimiter", [False, True])
def test_dealer_publish_is_acknowledged_and_delivered(server, alice, delimiter):
    with Rpc(server.doors["rpc"], delimiter) as rpc:
        answer = rpc.call([{"group": "room", "data": "text"}, {"user": "bob", "data": {"n": 2}}])
    routed, stored = answer["results"]
    assert (routed["group"], routed["ack"]) == ("room", "routed")
    assert (stored["group"], stored["ack"]) == ("user:bob", "stored")
    message = alice.next("message")
    assert (message["kind"], message["data"]) == ("text", "text")
    assert (message["id"], message["offset"]) == (routed["id"], routed["offset"])


def test_native_publish_is_answered_and_reaches_the_others(server, alice):
    with Native(server.url, token("bob"), groups=["room"]) as bob:
        receipt = bob.command("publish", group="room", data={"n": 1}, message_id="m-1")
        assert (receipt["message_id"], receipt["ack"]) == ("m-1", "routed")
        message = alice.next("message")
        assert (message["id"], message["from"], message["data"]) == ("m-1", "bob", {"n": 1})
        assert bob.next("message") == message


def test_raw_publish_reaches_the_others_as_it_was_sent(server, alice):
    raw = open_raw(server, "room")
    assert alice.next("message")["data"] == "here"
    raw.send_binary(b"\x00\xff")
    message = alice.next("message")
    assert (message["kind"], message["data"]) == ("binary", "AP8=")
    assert raw.recv_message() == b"\x00\xff"


@pytest.mark.parametrize("text", JSON_TEXTS)
def test_json_is_delivered_byte_for_byte(server, text):
    raw = open_raw(server, "room")
    native = NativeText(server, "room")
    body = '{"group":"room","data":' + text + "}"
    answer = server.api.request(
        "POST", "/v1/publish", body, {"Content-Type": "application/json"}
    )
    assert answer.status == 200, answer
    assert raw.recv_message() == text
    assert f'"data":{text},' in native.recv()


def test_text_and_bytes_keep_their_kind(server, alice):
    raw = open_raw(server, "room")
    alice.next("message")
    bare = '{"n": 1} 中 "quoted" \\ \n'
    server.api.post("/v1/publish", {"group": "room", "text": bare})
    server.api.post("/v1/publish", {"group": "room", "data_base64": "AAH/"})
    server.api.post("/v1/publish", {"group": "room", "text": ""})
    with Push(server.doors["pull"]) as push:
        push.send([{"group": "room", "data": bare}, {"group": "room", "data": b"\x00\x01\xff"}])

    assert [(m["kind"], m["data"]) for m in alice.messages(5)] == [
        ("text", bare),
        ("binary", "AAH/"),
        ("text", ""),
        ("text", bare),
        ("binary", "AAH/"),
    ]
    got = [raw.recv_message() for _ in range(5)]
    assert got == [bare, b"\x00\x01\xff", "", bare, b"\x00\x01\xff"]


def test_messages_of_one_publisher_stay_in_order(server, alice):
    raw = open_raw(server, "room")
    alice.next("message")
    with Push(server.doors["pull"]) as push:
        for n in range(300):
            push.send({"group": "room", "data": n})
    messages = alice.messages(300)
    assert [m["data"] for m in messages] == list(range(300))
    first = messages[0]["offset"]
    assert [m["offset"] for m in messages] == list(range(first, first + 300))
    assert [raw.recv_message() for _ in range(300)] == [str(n) for n in range(300)]


def test_group_gets_only_its_own_messages(server):
    with Native(server.url, token("a"), groups=["room:1"]) as one:
        with Native(server.url, token("b"), groups=["room:10"]) as ten:
            server.api.post("/v1/publish", {"group": "room:10", "data": 10})
            server.api.post("/v1/publish", {"group": "room:1", "data": 1})
            assert one.next("message")["data"] == 1
            assert ten.next("message")["data"] == 10
            assert one.settled() == [] and ten.settled() == []


def test_client_that_left_gets_nothing_more(server, alice):
    alice.command("leave", group="room")
    server.api.post("/v1/publish", {"group": "room", "data": 1})
    assert alice.settled() == []


def test_history_is_replayed_from_a_position_and_by_count(server, alice):
    for n in range(10):
        server.api.post("/v1/publish", {"group": "room", "data": n})
    alice.messages(10)
    with Native(server.url, token("bob")) as bob:
        joined = bob.command("join", group="room", last=3)
        assert [m["data"] for m in bob.messages(3)] == [7, 8, 9]
        bob.command("leave", group="room")
        since = [joined["epoch"], 4]
        assert bob.command("join", group="room", since=since)["recovered"] == "full"
        assert [m["offset"] for m in bob.messages(6)] == [5, 6, 7, 8, 9, 10]
        assert bob.settled() == []


# The command line against a running server


@pytest.fixture
def access(server, tmp_path):
    """(arguments for the API, arguments that sign tokens, URL for sub)."""
    key = tmp_path / "key"
    key.write_text(API_KEY + "\n")
    api = ["--api", server.api_url, "--key-file", key]
    sign = ["-c", server.directory / "peal.yaml"]
    return api, sign, ["--url", server.url.replace("http", "ws") + "/v1/ws"]


def test_pub_prints_the_receipt_and_sub_the_message(server, access, tmp_path):
    api, sign, url = access
    with Follow(tmp_path / "sub", "sub", "--user", "carol", *url, *sign) as sub:
        assert sub.line(0)["type"] == "welcome"
        done = run("pub", "--user", "carol", "--message-id", "m-1", *api, '{"n": 1e2}')
        assert done.returncode == 0, done
        receipt = json.loads(done.stdout)
        assert (receipt["id"], receipt["ack"]) == ("m-1", "stored")
        message = sub.line(1)
        assert (message["id"], message["data"]) == ("m-1", {"n": 100})
        assert message["offset"] == receipt["offset"]
        assert sub.interrupt() == 0


def test_pub_reaches_groups_through_every_door(server, access, alice):
    api, _, _ = access
    assert json.loads(run("pub", "--group", "room", *api, "1").stdout)["ack"] == "routed"
    done = run("pub", "--group", "room", "--rpc", server.doors["rpc"], "--text", "中")
    assert json.loads(done.stdout)["ack"] == "routed"
    done = run("pub", "--group", "room", "--zmq", server.doors["pull"], "-", input="[3]")
    assert (done.returncode, done.stdout) == (0, "")
    assert [m["data"] for m in alice.messages(3)] == [1, "中", [3]]


def test_inbox_prints_what_is_stored(server, access):
    api, _, _ = access
    for n in range(3):
        server.api.post("/v1/publish", {"user": "dave", "data": n})
    lines = run("inbox", "dave", *api).stdout.splitlines()
    assert sorted(json.loads(line)["data"] for line in lines) == [0, 1, 2]


def test_token_opens_the_door_for_the_user_it_names(server, access):
    _, sign, _ = access
    made = run("token", "--user", "erin", "--ttl", "1m", *sign)
    assert made.returncode == 0, made
    with Native(server.url, made.stdout.strip()) as client:
        assert client.welcome["user"] == "erin"
