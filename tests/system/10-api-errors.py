"""The API for backends: what it answers, above all when it has to say no."""

import hashlib
import itertools
import json
import re

import msgpack
import pytest

from doors import Push, Rpc
from native import Error, Native
from peal import Peal
from rawws import RawWebSocket
from tokens import token
from web import Http

JSON = {"Content-Type": "application/json"}
LONG = "x" * 201
BAD_GROUPS = ["", LONG, "中" * 67, "a\nb", "a\0b", "a\x7f", "a\u0085b"]
CONFIG = {"limits": {"body": "256KiB"}, "groups": [{"match": "user:{id}", "durable": True}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Peal(tmp_path_factory.mktemp("peal"), CONFIG) as server:
        yield server


def publish(server, body):
    answer = server.api.request("POST", "/v1/publish", body, JSON)
    return answer.status, answer.json


def error(answer):
    return answer.status, answer.json["error"]["code"], answer.json["error"].get("field")


def metric(server, name):
    found = re.search(rf"^{re.escape(name)} (\d+)$", metrics(server), re.MULTILINE)
    return int(found[1])


def metrics(server):
    return Http(server.api_url).get("/metrics").body.decode()


# Without a key


def test_health_and_metrics_need_no_key(server):
    open_door = Http(server.api_url)
    assert open_door.get("/livez").status == 200
    assert open_door.get("/readyz").status == 200
    answer = open_door.get("/metrics")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain")
    for line in answer.body.decode().splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) .+|peal_\w+(\{\w+="\w+"\})? -?\d+', line), line


def test_metrics_name_no_user_and_no_group(server):
    server.api.post("/v1/publish", [{"user": "tainted", "data": 1}, {"group": "tainted", "data": 1}])
    assert "tainted" not in metrics(server)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer wrong",
        "Bearer ",
        "Bearer",
        "Basic a2V5OmtleQ==",
        "key-of-the-system-tests",
        "Bearer key-of-the-system-test",
        "Bearer key-of-the-system-testss",
        "Bearer KEY-OF-THE-SYSTEM-TESTS",
        "Token key-of-the-system-tests",
    ],
)
@pytest.mark.parametrize(
    "method, path",
    [("POST", "/v1/publish"), ("GET", "/v1/inbox/alice"), ("POST", "/v1/inbox/alice/read")],
)
def test_wrong_key_is_401(server, authorization, method, path):
    headers = {} if authorization is None else {"Authorization": authorization}
    body = b"{}" if method == "POST" else None
    answer = Http(server.api_url).request(method, path, body, headers)
    assert error(answer)[:2] == (401, "key_invalid")


def test_token_of_a_user_is_no_key(server):
    headers = {"Authorization": "Bearer " + token("alice")}
    answer = Http(server.api_url).request("POST", "/v1/publish", b"{}", headers)
    assert answer.status == 401


def test_key_may_be_given_as_its_hash(start_peal):
    hashed = "sha256:" + hashlib.sha256(b"another-key").hexdigest()
    server = start_peal({"api": {"listen": "127.0.0.1:0", "keys": ["first-key", hashed]}})
    for key, status in (("first-key", 200), ("another-key", 200), (hashed, 401)):
        headers = {"Authorization": f"Bearer {key}"}
        answer = Http(server.api_url).request(
            "POST", "/v1/publish", {"group": "g", "data": 1}, headers
        )
        assert answer.status == status


# Requests that are wrong as a whole


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/publish/", "/v1/inbox/", "/v1/nothing", "/V1/publish"])
def test_unknown_path_is_404(server, path):
    assert server.api.get(path).status == 404


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/v1/publish"),
        ("PUT", "/v1/publish"),
        ("DELETE", "/v1/publish"),
        ("OPTIONS", "/v1/publish"),
        ("POST", "/v1/inbox/alice"),
        ("GET", "/v1/inbox/alice/read"),
        ("POST", "/metrics"),
        ("TRACE", "/livez"),
    ],
)
def test_other_methods_are_405_and_name_those_that_there_are(server, method, path):
    answer = server.api.request(method, path)
    assert answer.status == 405
    assert method not in answer.headers["allow"].split(", ")


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "multipart/form-data; boundary=x"])
def test_other_media_types_are_415(server, kind):
    answer = server.api.request("POST", "/v1/publish", b"{}", {"Content-Type": kind})
    assert answer.status == 415


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "nonsense",
        '{"group": "g", "data": 1,}',
        '{"group": "g", "data": 1} {}',
        '{"group": "g", "data": 01}',
        '{"group": "g", "data": NaN}',
        '{"group": "g", "data": "\\ud800"}',
        "{'group': 'g', 'data': 1}",
        '{"group": "g", "group": "h", "data": 1}',
        '{"group": "g", "data": "a\nb"}',
        b'{"group": "g", "data": "\xff"}',
        b'{"group": "g", "data": "\xed\xa0\x80"}',
        '{"group": "g", "data": ' + "[" * 1000 + "]" * 1000 + "}",
        '{"group": "g", "data": ' + "[" * 100000,
    ],
    ids=itertools.count(),
)
def test_malformed_json_is_400(server, body):
    status, answer = publish(server, body)
    assert status == 400
    assert answer["error"]["code"] in ("bad_json", "bad_message")
    assert answer["error"]["message"]


@pytest.mark.parametrize("body", ["1", '"text"', "null", "true"])
def test_json_that_is_no_message_is_400(server, body):
    assert publish(server, body)[0] == 400


def test_body_over_the_limit_is_413_and_data_too(server):
    status, answer = publish(server, b"x" * (256 * 1024 + 1))
    assert (status, answer["error"]["code"]) == (413, "too_large")
    status, answer = publish(server, json.dumps({"group": "g", "text": "x" * (64 * 1024 + 1)}))
    assert (status, answer["error"]["code"]) == (413, "too_large")
    assert publish(server, json.dumps({"group": "g", "text": "x" * 64 * 1024}))[0] == 200


def test_body_of_an_absurd_length_is_refused_without_reading_it(server):
    for length in ("99999999999", "-1", "abc", "5, 5", "18446744073709551616"):
        raw = f"POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n"
        raw += f"Authorization: {server.api.headers['Authorization']}\r\n\r\n"
        answer = server.api.exchange(raw.encode())
        assert re.match(rb"HTTP/1\.1 4(00|13) ", answer), (length, answer)


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: 2\r\nContent-Length: 40",
        "Content-Length : 2",
        "Content-Length: 2\r\n Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Content-Length: +2",
        "Content-Length: 0x2",
    ],
)
def test_request_that_two_servers_read_differently_is_refused(server, lines):
    raw = f"POST /v1/publish HTTP/1.1\r\nHost: a\r\n{lines}\r\n"
    raw += f"Authorization: {server.api.headers['Authorization']}\r\n\r\n{{}}"
    answer = server.api.exchange(raw.encode())
    assert re.match(rb"HTTP/1\.1 4(00|11) ", answer), answer
    assert answer.count(b"HTTP/1.1 ") == 1


# Messages that are wrong one by one

WRONG = [
    ({"data": 1}, "missing_field", "group"),
    ({"group": "g"}, "missing_field", "data"),
    ({"group": "g", "user": "u", "data": 1}, "bad_field", "user"),
    ({"group": "g", "data": 1, "text": "x"}, "bad_field", "text"),
    ({"group": 5, "data": 1}, "bad_field", "group"),
    ({"group": "g", "text": 5}, "bad_field", "text"),
    ({"group": "g", "data_base64": "?"}, "bad_field", "data_base64"),
    ({"group": "g", "data": 1, "message_id": "x" * 65}, "bad_field", "message_id"),
    ({"group": "g", "data": 1, "message_id": ""}, "bad_field", "message_id"),
    ({"group": "g", "data": 1, "event": "a\nb"}, "bad_field", "event"),
    ({"group": "g", "data": 1, "ttl_ms": 0}, "bad_field", "ttl_ms"),
    ({"group": "g", "data": 1, "ttl_ms": -1}, "bad_field", "ttl_ms"),
    ({"group": "g", "data": 1, "ttl_ms": "1s"}, "bad_field", "ttl_ms"),
    *[({"group": group, "data": 1}, "bad_group", "group") for group in BAD_GROUPS],
    *[({"user": user, "data": 1}, "bad_group", "user") for user in ["", "x" * 196, "a\0"]],
    ({"group": "user:", "data": 1}, "bad_group", "group"),
]


@pytest.mark.parametrize("message, code, field", WRONG, ids=itertools.count())
def test_wrong_message_is_400_naming_the_field(server, message, code, field):
    answer = server.api.post("/v1/publish", message)
    assert error(answer) == (400, code, field)
    assert field in answer.json["error"]["message"]


def test_group_of_the_system_is_403(server):
    assert error(server.api.post("/v1/publish", {"group": "sys:x", "data": 1}))[:2] == (403, "forbidden")


@pytest.mark.parametrize(
    "message, code, field",
    # In msgpack data says of itself whether it is text or bytes.
    [wrong for wrong in WRONG if not wrong[0].keys() & {"text", "data_base64"}],
    ids=itertools.count(),
)
def test_wrong_message_is_refused_at_the_acknowledged_door(server, message, code, field):
    with Rpc(server.doors["rpc"]) as rpc:
        (result,) = rpc.call([message])["results"]
    assert (result["error"]["code"], result["error"]["field"]) == (code, field)


def test_list_is_answered_one_by_one(server):
    batch = [
        {"group": "g", "data": 1},
        {"data": 1},
        {"user": "bob", "data": 2},
        {"group": LONG, "data": 3},
        5,
        {"groups": ["a", "b\n"], "data": 4},
    ]
    answer = server.api.post("/v1/publish", batch)
    assert answer.status == 200
    told = [r.get("ack") or r["error"]["code"] for r in answer.json["results"]]
    assert told == [
        "routed",
        "missing_field",
        "stored",
        "bad_group",
        "bad_message",
        "routed",
        "bad_group",
    ]


def test_list_without_an_accepted_message_has_the_status_of_the_first(server):
    answer = server.api.post("/v1/publish", [{"group": "sys:x", "data": 1}, {"data": 1}])
    assert answer.status == 403
    codes = [r["error"]["code"] for r in answer.json["results"]]
    assert codes == ["forbidden", "missing_field"]


def test_groups_and_users_have_one_receipt_for_each(server):
    results = server.api.post("/v1/publish", {"users": ["u1", "u2"], "data": 1}).json["results"]
    assert [r["group"] for r in results] == ["user:u1", "user:u2"]


def test_list_of_1001_messages_is_too_large(server):
    assert server.api.post("/v1/publish", [{"group": "g", "data": 1}] * 1000).status == 200
    answer = server.api.post("/v1/publish", [{"group": "g", "data": 1}] * 1001)
    assert error(answer)[:2] == (413, "too_large")


def test_null_is_data(server):
    assert publish(server, '{"group": "g", "data": null}')[0] == 200


# Inboxes


def test_inbox_is_listed_from_the_newest_in_pages(server):
    for n in range(7):
        server.api.post("/v1/publish", {"user": "pages", "data": n})
    page = server.api.get("/v1/inbox/pages?limit=3").json
    assert page["unread"] == 7
    offsets = [m["offset"] for m in page["messages"]]
    while "next" in page:
        page = server.api.get(f"/v1/inbox/pages?limit=3&before={page['next']}").json
        offsets += [m["offset"] for m in page["messages"]]
    assert offsets == [7, 6, 5, 4, 3, 2, 1]


def test_inbox_of_nobody_is_empty(server):
    page = server.api.get("/v1/inbox/nobody").json
    assert (page["messages"], page["unread"]) == ([], 0)


def test_inbox_of_a_user_with_a_strange_name(server):
    for user, path in (("a/b", "a%2Fb"), ("中 文", "%E4%B8%AD%20%E6%96%87"), ("a+b", "a+b")):
        server.api.post("/v1/publish", {"user": user, "data": user})
        page = server.api.get(f"/v1/inbox/{path}").json
        assert [m["data"] for m in page["messages"]] == [user]


def test_inbox_is_marked_by_the_backend_and_devices_are_told(server):
    for n in range(4):
        server.api.post("/v1/publish", {"user": "marks", "data": n})
    with Native(server.url, token("marks")) as client:
        answer = server.api.post("/v1/inbox/marks/read", {"upto": 2})
        assert (answer.status, answer.json["unread"]) == (200, 2)
        state = client.next("state")
        assert (state["mark"], state["upto"], state["unread"]) == ("read", 2, 2)
        assert server.api.post("/v1/inbox/marks/ack", {"offsets": [3]}).status == 200
        assert client.next("state")["mark"] == "ack"
        assert server.api.post("/v1/inbox/marks/read", {"all": True}).json["unread"] == 0
    unread = server.api.get("/v1/inbox/marks?unread_only=true").json
    assert unread["messages"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "before=0", "before=x", "limit="])
def test_inbox_with_a_bad_number_is_400_naming_it(server, query):
    status, code, field = error(server.api.get(f"/v1/inbox/alice?{query}"))
    assert (status, code, field) == (400, "bad_field", query.split("=")[0])


@pytest.mark.parametrize("user", ["%00", "%0a", "x" * 196, "%ff", "%zz"])
def test_inbox_of_a_name_that_is_none_is_400(server, user):
    assert server.api.get(f"/v1/inbox/{user}").status == 400


@pytest.mark.parametrize(
    "body", ["", "{", "{}", "[]", '{"upto": 0}', '{"upto": "x"}', '{"offsets": [0]}', '{"offsets": 5}']
)
def test_marks_that_say_nothing_are_400(server, body):
    answer = server.api.request("POST", "/v1/inbox/alice/read", body, JSON)
    assert answer.status == 400 and answer.json["error"]["code"]


# The other doors

MALFORMED = [
    b"\xc1",
    b"\x81",  # a map that ends early
    b"\xdf\xff\xff\xff\xff",  # 4 G entries
    b"\xdd\x08\x00\x00\x00",  # 134 M elements
    b"\x91" * 40 + b"\x01",
    b"\x91" * 100000,
    msgpack.packb({"group": "g", "data": 1}) + b"x",
    b"{",
    b"[1,",
    b"nonsense",
    b"",
]


@pytest.mark.parametrize("raw", MALFORMED, ids=itertools.count())
def test_push_door_counts_what_is_malformed_and_goes_on(server, raw):
    name = 'peal_publishes_refused_total{reason="invalid"}'
    before = metric(server, name)
    with Native(server.url, token("push"), groups=["after"]) as client:
        with Push(server.doors["pull"]) as push:
            push.send_bytes(raw)
            push.send({"group": "after", "data": 1})
            assert client.next("message")["data"] == 1
    assert metric(server, name) == before + 1


@pytest.mark.parametrize("raw", MALFORMED, ids=itertools.count())
def test_acknowledged_door_survives_what_is_malformed(server, raw):
    with Rpc(server.doors["rpc"]) as rpc:
        rpc.socket.send(raw)
    with Rpc(server.doors["rpc"]) as rpc:
        assert rpc.publish(group="g", data=1)["ack"] == "routed"


@pytest.mark.parametrize("op, messages", [("destroy", []), (5, []), ("publish", 5), ("publish", {})])
def test_acknowledged_door_answers_a_wrong_call_with_its_error(server, op, messages):
    with Rpc(server.doors["rpc"]) as rpc:
        answer = rpc.call(messages, op)
    assert answer["req"] == 1
    assert answer["error"]["message"]
    if op == "destroy":
        assert answer["error"]["code"] == "unknown_type"


@pytest.mark.parametrize(
    "text, code",
    [
        ("{", "bad_json"),
        ("nonsense", "bad_json"),
        ('{"type":"join","type":"leave"}', "bad_json"),
        ("[]", "bad_message"),
        ("5", "bad_message"),
        ('{"id":1}', "missing_field"),
        ('{"type":5}', "bad_field"),
        ('{"type":"destroy"}', "unknown_type"),
        ('{"type":""}', None),
        ('{"type":"join"}', "missing_field"),
        ('{"type":"join","group":5}', "bad_group"),
        ('{"type":"publish","group":"g"}', "missing_field"),
        ('{"type":"publish","data":1}', "missing_field"),
        ('{"type":"ack"}', "missing_field"),
        ('{"type":"ack","upto":-1}', "bad_field"),
        ('{"type":"read","offsets":["x"]}', "bad_field"),
        ('{"type":"join","group":"g","since":[1]}', "bad_field"),
        ("[" * 60000, "bad_json"),
    ],
    ids=itertools.count(),
)
def test_native_command_that_is_wrong_is_an_error_and_the_third_ends_it(server, text, code):
    client = Native(server.url, token("wrong"))
    for _ in range(2):
        client.send_raw(text)
        frame = client.next("error")
        assert frame["code"] == code or code is None
        assert frame["message"]
    client.send_raw(text)
    assert client.wait_closed() == 4000


def test_native_error_names_the_command_that_it_answers(server):
    with Native(server.url, token("wrong")) as client:
        with pytest.raises(Error) as refused:
            client.command("destroy")
        assert (refused.value.code, refused.value.frame["id"]) == ("unknown_type", 1 + 1)
        assert client.command("ping")["type"] == "pong"


def test_native_binary_frame_is_an_error(server):
    with RawWebSocket(server.url, "/v1/ws") as ws:
        ws.send_binary(b'{"type":"ping"}')
        assert json.loads(ws.recv_message())["code"] == "bad_message"


def test_native_frame_over_the_limit_closes_with_1009(server):
    client = Native(server.url, token("large"))
    client.send("publish", group="g", text="x" * 70 * 1024)
    assert client.wait_closed() == 1009
