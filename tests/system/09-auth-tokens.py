"""Who is this, what may they do, and that no secret shows anywhere."""

import base64
import hashlib
import hmac
import json
import pathlib
import time

import pytest

from command import run
from native import Closed, Error, Native, Refused
from peal import API_KEY, SECRET, Peal
from rawws import RawWebSocket
from tokens import token

CONFIG = {
    "auth": {"keys": [{"alg": "HS256", "secret": SECRET}], "leeway": "0s"},
    "routes": [
        {
            "path": "/raw",
            "dialect": "raw",
            "identity": "token",
            "join": ["user:{identity}"],
            "inbound": "echo",
        },
        {
            "path": "/lenient",
            "dialect": "raw",
            "identity": "token",
            "join": ["user:{identity}", "all"],
            "inbound": "echo",
            "lenient": True,
        },
        {
            "path": "/claim",
            "dialect": "raw",
            "identity": "token",
            "join": ["user:{identity}"],
            "inbound": "ignore",
            "user_claim": "uid",
        },
    ],
    "groups": [
        {"match": "open:*", "join": "anyone", "publish": "members"},
        {"match": "closed:*", "join": "server", "publish": "server"},
        {"match": "user:{id}", "durable": True},
        {"match": "*", "join": "token", "publish": "server"},
    ],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Peal(tmp_path_factory.mktemp("peal"), CONFIG) as server:
        yield server


def connect(server, user="alice", **claims):
    return Native(server.url, token(user, **claims))


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(header, claims=None, secret=SECRET):
    """A token with any header, signed with HS256 whatever it says."""
    now = int(time.time())
    claims = claims or {"sub": "alice", "iat": now, "exp": now + 3600}
    head, body = (b64(json.dumps(part).encode()) for part in (header, claims))
    proof = hmac.new(secret.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{b64(proof)}"


def unsigned(alg="none"):
    head, body, _ = forge({"alg": alg, "typ": "JWT"}).split(".")
    return f"{head}.{body}."


def tampered():
    head, _, proof = token("alice").split(".")
    claims = {"sub": "root", "exp": int(time.time()) + 3600}
    return f"{head}.{b64(json.dumps(claims).encode())}.{proof}"


NOW = int(time.time())
BAD_TOKENS = {
    "garbage": "garbage",
    "empty parts": "..",
    "one part more": token("alice") + ".x",
    "none": unsigned(),
    "None": unsigned("None"),
    "unsigned HS256": unsigned("HS256"),
    "tampered": tampered(),
    "another secret": token("alice", secret="another-secret-of-at-least-32-bytes!"),
    "empty secret": forge({"alg": "HS256"}, secret=""),
    "HS384": token("alice", algorithm="HS384"),
    "HS512": token("alice", algorithm="HS512"),
    "RS256 that is HS256": forge({"alg": "RS256"}),
    "alg missing": forge({"typ": "JWT"}),
    "alg of another type": forge({"alg": ["HS256"]}),
    "unknown crit": forge({"alg": "HS256", "crit": ["x"], "x": 1}),
    "empty crit": forge({"alg": "HS256", "crit": []}),
    "claims of another type": forge({"alg": "HS256"}, ["alice"]),
    "user of another type": token("alice", sub=["alice"]),
    "user with a newline": token("ali\nce"),
    "user with a NUL": token("ali\0ce"),
    "user of 201 bytes": token("x" * 201),
    "empty user": token(""),
    "not valid yet": token("alice", nbf=NOW + 3600),
    "issued in the future": token("alice", iat=NOW + 3600),
    "exp of another type": token("alice", exp="tomorrow"),
    "exp in milliseconds": token("alice", exp=(NOW + 3600) * 1000 * 1000),
    "signature with padding": token("alice") + "=",
    "blank behind": token("alice") + " ",
}
PLACES = ["query", "header", "protocol"]


def upgrade(server, text, place, path="/raw"):
    """The status of a handshake that shows a token in one of three places."""
    headers, protocols = {}, []
    if place == "query":
        path += "?a=b&token=" + text.replace(" ", "%20").replace("=", "%3D")
    elif place == "header":
        headers["Authorization"] = "Bearer " + text
    else:
        protocols = ["peal.v1.json", "peal.token." + text]
    with RawWebSocket(server.url, path, headers, protocols) as ws:
        return ws.status, ws.read_body() if ws.status != 101 else b""


# Where a token may stand


@pytest.mark.parametrize("place", PLACES)
def test_good_token_is_taken_in_every_place(server, place):
    assert upgrade(server, token("alice"), place)[0] == 101


@pytest.mark.parametrize("place", PLACES)
def test_token_of_the_upgrade_is_enough_for_hello(server, place):
    good = token("alice")
    headers = {"Authorization": "Bearer " + good} if place == "header" else {}
    protocols = ["peal.v1.json"] + (["peal.token." + good] if place == "protocol" else [])
    path = "/v1/ws" + (f"?token={good}" if place == "query" else "")
    with RawWebSocket(server.url, path, headers, protocols) as ws:
        ws.send_text('{"type":"hello","id":1}')
        assert json.loads(ws.recv_message())["user"] == "alice"


def test_integer_user_claim_is_its_decimal_text(server):
    with connect(server, sub=42) as client:
        assert client.welcome["user"] == "42"


def test_route_has_its_own_user_claim(server):
    assert upgrade(server, token("alice", uid="u-1"), "query", "/claim")[0] == 101
    with connect(server, "u-1") as client:
        server.api.post("/v1/publish", {"user": "u-1", "data": 1})
        assert client.next("message")["data"] == 1


# Bad tokens


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_bad_token_is_401_at_the_upgrade(server, name):
    text = BAD_TOKENS[name]
    for path in ("/raw", "/v1/ws"):
        for place in PLACES if " " not in text else ["query"]:
            status, body = upgrade(server, text, place, path)
            assert (status, b"token_invalid" in body) == (401, True), (place, path, body)


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_bad_token_in_hello_is_an_error(server, name):
    with pytest.raises(Error) as refused:
        Native(server.url, BAD_TOKENS[name])
    assert refused.value.code == "token_invalid"
    assert refused.value.frame["retry"] == "auth"


def test_expired_token_is_told_as_such(server):
    old = token("alice", ttl_s=-10)
    status, body = upgrade(server, old, "query")
    assert (status, b"token_expired" in body) == (401, True)
    with pytest.raises(Error) as refused:
        Native(server.url, old)
    assert refused.value.code == "token_expired"


def test_missing_token_is_401_where_there_is_no_hello(server):
    with RawWebSocket(server.url, "/raw") as ws:
        assert ws.status == 401
        assert b"token_missing" in ws.read_body()


def test_hello_without_a_token_is_an_error_and_may_be_said_again(server):
    with Native(server.url, hello=False) as client:
        with pytest.raises(Error) as refused:
            client.command("hello")
        assert refused.value.code == "token_missing"
        assert client.command("hello", token=token("alice"))["user"] == "alice"


def test_third_bad_hello_closes_the_connection(server):
    client = Native(server.url, hello=False)
    for _ in range(2):
        with pytest.raises(Error):
            client.command("hello", token="garbage")
    client.send("hello", token="garbage")
    assert client.wait_closed() == 4000


def test_hello_cannot_change_who_the_upgrade_named(server):
    good = token("alice")
    with Native(server.url, path=f"/v1/ws?token={good}", hello=False) as client:
        with pytest.raises(Error) as refused:
            client.command("hello", token=token("bob"))
        assert refused.value.code == "forbidden"
        assert client.command("hello")["user"] == "alice"


def test_lenient_route_takes_a_bad_token_for_nobody(server):
    assert upgrade(server, "garbage", "query", "/lenient")[0] == 101
    with RawWebSocket(server.url, "/lenient?token=" + tampered()) as ws:
        ws.send_text("in")
        assert ws.recv_message() == "in"
        # The group of everybody is joined, the inbox of the user named there is not.
        server.api.post("/v1/publish", {"users": ["root", "alice"], "data": "secret"})
        server.api.post("/v1/publish", {"group": "all", "data": 1})
        ws.send_text("out")
        got = [ws.recv_message(), ws.recv_message()]
        assert sorted(got) == ["1", "out"]


def test_issuer_and_audience_are_checked_where_they_are_set(start_peal):
    auth = {**CONFIG["auth"], "issuer": "shop", "audience": "peal"}
    server = start_peal({**CONFIG, "auth": auth})
    for claims in ({}, {"iss": "shop"}, {"aud": "peal"}, {"iss": "other", "aud": "peal"}):
        with pytest.raises(Error):
            connect(server, **claims)
    connect(server, iss="shop", aud="peal").close()
    connect(server, iss="shop", aud=["other", "peal"]).close()


# What a user may do


def refused_join(client, group):
    with pytest.raises(Error) as refused:
        client.command("join", group=group)
    return refused.value.code


@pytest.mark.parametrize(
    "group",
    [
        "user:bob",
        "user:",
        "user:alice ",
        "user:Alice",
        "user:alice/../bob",
        "user:аlice",  # a Cyrillic a
        "user:alice:x",
        "sys:revoked",
        "sys:",
        "closed:1",
        "anything",
        "open",
        "*",
    ],
)
def test_user_joins_no_inbox_but_their_own_and_no_group_without_a_grant(server, group):
    with connect(server) as client:
        assert refused_join(client, group) == "forbidden"


@pytest.mark.parametrize(
    "group", ["", "x" * 201, "中" * 67, "a\nb", "a\0b", "a\x7fb", "a\u0085b", "\x1f"]
)
def test_group_name_that_is_none_is_refused(server, group):
    with connect(server) as client:
        assert refused_join(client, group) == "bad_group"
        with pytest.raises(Error) as refused:
            client.command("publish", group=group, data=1)
        assert refused.value.code == "bad_group"


@pytest.mark.parametrize("size", [200, 195])
def test_longest_group_names_work(server, size):
    name = "open:" + "x" * (size - 5)
    with connect(server, "longest") as client:
        client.command("join", group=name)
        client.command("publish", group=name, data=1)
        assert client.next("message")["group"] == name


def test_grant_of_one_group_is_none_of_another(server):
    with connect(server, groups=["room:1", "chat:{id}", "news*"]) as client:
        for group in ("room:1", "chat:5", "news", "news:today"):
            client.command("join", group=group)
        for group in ("room:10", "room:", "Room:1", "chat:", "xnews", "room:1 "):
            assert refused_join(client, group) == "forbidden"


def test_grant_of_everything_is_no_grant_of_inboxes(server):
    with connect(server, groups=["*", "user:*"], publish=["*"]) as client:
        assert refused_join(client, "user:bob") == "forbidden"
        assert refused_join(client, "sys:revoked") == "forbidden"
        client.command("join", group="anything")
        with pytest.raises(Error) as refused:
            client.command("publish", group="sys:revoked", data=1)
        assert refused.value.code == "forbidden"


def test_publish_needs_membership_or_a_grant(server):
    with connect(server, groups=["room:1"], publish=["wall:{id}"]) as client:
        client.command("join", group="room:1")
        for group in ("room:1", "open:1", "user:bob"):
            with pytest.raises(Error) as refused:
                client.command("publish", group=group, data=1)
            assert refused.value.code == "forbidden"
        client.command("publish", group="wall:1", data=1)
        client.command("join", group="open:1")
        client.command("publish", group="open:1", data=1)


def test_sender_is_who_the_token_named(server):
    with connect(server, "sender") as client:
        client.command("join", group="open:2")
        client.command("publish", group="open:2", data=1, **{"from": "bob"})
        assert client.next("message")["from"] == "sender"


# Time


def test_hello_that_does_not_come_closes_the_connection(server):
    client = Native(server.url, hello=False)
    assert client.wait_closed() == 4403


def test_token_that_expires_closes_the_connection(server):
    client = connect(server, ttl_s=2)
    assert client.wait_closed() == 4401


# Secrets


def test_no_secret_shows_anywhere(start_peal, tmp_path):
    server = start_peal({**CONFIG, "log_level": "debug"})
    good = token("alice")
    for place in PLACES:
        for path in ("/raw", "/v1/ws", "/nothing"):
            upgrade(server, good, place, path)
            upgrade(server, BAD_TOKENS["another secret"], place, path)
    Native(server.url, good, groups=["open:1"]).close()
    for bad in BAD_TOKENS.values():
        with pytest.raises((Error, Closed, Refused)):
            Native(server.url, bad)
    server.api.post("/v1/publish", {"user": "alice", "data": "the-payload-itself"})
    server.web.get("/v1/ws?token=" + good)
    server.api.request("GET", "/v1/inbox/alice", headers={"Authorization": "Bearer the-wrong-key"})
    metrics = server.api.get("/metrics").body.decode()
    # Sockets that are cut in the middle are logged as well.
    for head in (f"GET /raw?token={good} HTTP/1.1\r\nbroken\r\n\r\n", f"GET /{good}"):
        with server.web.connect() as sock:
            sock.sendall(head.encode())
    cmdline = pathlib.Path(f"/proc/{server.pid}/cmdline").read_bytes().decode()
    server.stop()
    printed = run("print-config", "-c", server.directory / "peal.yaml", "--dev")
    assert printed.returncode == 0 and "***" in printed.stdout

    secrets = [good, SECRET, API_KEY, "the-wrong-key", "the-payload-itself", *BAD_TOKENS.values()]
    parts = {part for secret in secrets for part in secret.split(".") if len(part) > 10}
    for place in (server.log.text(), cmdline, printed.stdout, printed.stderr, metrics):
        assert [part for part in parts if part in place] == []


def test_secrets_made_in_dev_mode_are_files_for_the_owner_only(start_peal):
    server = start_peal({"auth": {}, "api": {"listen": "127.0.0.1:0"}})
    folder = pathlib.Path(server.config["data"])
    made = [folder / "api.key", folder / "token.secret"]
    secrets = [path.read_text().strip() for path in made]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o600, 0o600]
    assert all(len(secret) >= 32 for secret in secrets)
    assert secrets[1] not in server.stdout()
    assert all(secret not in server.log.text() for secret in secrets)
    server.stop()
    server.start()
    assert [path.read_text().strip() for path in made] == secrets


@pytest.mark.parametrize("key", ["api.keys.0", "auth.keys.0.secret"])
def test_set_refuses_secrets(tmp_path, key):
    done = run("print-config", "--set", f"{key}={SECRET}")
    assert done.returncode == 78
    assert SECRET not in done.stdout + done.stderr
