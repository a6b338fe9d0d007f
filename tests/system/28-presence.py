"""Who is there: users and connections of groups whose policy asks, over two nodes and one router."""

import socket
import time

import pytest

from crowd import Crowd
from native import Error, Native
from peal import wait_until
from tokens import token

GRACE_S = 1.5
CONFIG = {
    "workers": 2,
    "presence": {"grace": "1500ms", "settle": "2s"},
    "routes": [
        {"path": "/crowd", "dialect": "raw", "identity": "anonymous", "join": ["here:crowd"]}
    ],
    "groups": [
        {"match": "user:{id}", "durable": True, "presence": "users"},
        {"match": "here:*", "join": "anyone", "presence": "users"},
        {"match": "*", "join": "anyone"},
    ],
}


def presence(node, group, query=""):
    answer = node.api.get(f"/v1/presence?group={group}{query}")
    assert answer.status == 200, answer
    return answer.json


def counts(node, group):
    answer = presence(node, group)
    return answer["users"], answer["connections"]


def wait_counts(node, group, users, connections, timeout=30):
    what = f"{users} users and {connections} connections in {group}"
    wait_until(lambda: counts(node, group) == (users, connections), f"not {what}", timeout)


def wait_settled(node, group="here:x"):
    wait_until(lambda: "settling" not in presence(node, group), "not settled")


def wait_there(node, group, *names):
    """Of whom there are connections; those in their grace have none."""

    def there():
        listed = presence(node, group)["list"]
        return sorted(p["user"] for p in listed if p["connections"] > 0) == sorted(names)

    wait_until(there, f"not {names} in {group}")


def follow(client, there=None):
    """Takes what the client was told so far; who is there by that."""
    there = set() if there is None else there
    for frame in client.settled():
        if frame["type"] == "presence":
            assert not set(frame.get("join", [])) & set(frame.get("leave", []))
            there |= set(frame.get("join", []))
            there -= set(frame.get("leave", []))
    return there


def news(client):
    """The names that came and left in what was told so far."""
    told = [f for f in client.settled() if f["type"] == "presence"]
    return [n for f in told for n in f.get("join", [])], [n for f in told for n in f.get("leave", [])]


def watch(node, group, user="watch"):
    client = Native(node.url, token(user))
    client.command("join", group=group, presence=True)
    return client, client.next("presence")


@pytest.fixture
def cluster(start_cluster):
    router, nodes = start_cluster(2, CONFIG)
    wait_settled(nodes[0])
    return router, nodes


def test_two_users_with_several_devices_on_two_nodes_are_counted_apart(cluster):
    _, (a, b) = cluster
    watcher, first = watch(a, "here:1")
    assert (first["users"], first["list"]) == (1, ["watch"])
    clients = [Native(node.url, token("ann"), groups=["here:1"]) for node in (a, a, b)]
    clients += [Native(node.url, token("bob"), groups=["here:1"]) for node in (a, b)]
    wait_counts(a, "here:1", 3, 6)
    wait_counts(b, "here:1", 3, 6)
    answer = presence(b, "here:1")
    listed = {person["user"]: person["connections"] for person in answer["list"]}
    assert listed == {"watch": 1, "ann": 3, "bob": 2}
    page = presence(b, "here:1", "&limit=2")
    rest = presence(b, "here:1", f"&limit=2&after={page['next']}")
    assert len(page["list"]) == 2 and "next" not in rest
    assert sorted(p["user"] for p in page["list"] + rest["list"]) == ["ann", "bob", "watch"]
    # A client asks as well, and hears of both without asking.
    reply = clients[0].command("presence", group="here:1")
    assert (reply["users"], reply["connections"]) == (3, 6)
    assert sorted(reply["list"]) == ["ann", "bob", "watch"]
    told = {"watch"}
    wait_until(lambda: follow(watcher, told) == {"watch", "ann", "bob"}, "not told of both")
    # Devices go, the users stay; the last one takes its user with it.
    for client in clients[:2]:
        client.close()
    wait_counts(a, "here:1", 3, 4)
    clients[2].close()
    wait_counts(a, "here:1", 2, 3)
    wait_until(lambda: follow(watcher, told) == {"watch", "bob"}, "not told of the leave")
    # The inbox says the same of a user, wherever he is.
    assert a.api.get("/v1/users/bob").json == {"user": "bob", "online": True, "connections": 2}
    assert b.api.get("/v1/users/bob").json == {"user": "bob", "online": True, "connections": 2}
    assert b.api.get("/v1/users/eve").json == {"user": "eve", "online": False, "connections": 0}
    for client in [*clients[3:], watcher]:
        client.close()
    wait_counts(a, "here:1", 0, 0)


def test_page_reload_is_silent_also_by_another_node(cluster):
    _, (a, b) = cluster
    watcher, _ = watch(b, "here:1")
    ann = Native(a.url, token("ann"), groups=["here:1"])
    told = {"watch"}
    wait_until(lambda: follow(watcher, told) == {"watch", "ann"}, "not told of ann")
    for node in (a, b, a):
        ann.abort()
        wait_until(lambda: counts(a, "here:1")[1] == 1, "the connection is still there")
        assert counts(a, "here:1")[0] == 2
        ann = Native(node.url, token("ann"), groups=["here:1"])
        wait_counts(b, "here:1", 2, 2)
    # Whatever that had caused would be told before this.
    with Native(a.url, token("end"), groups=["here:1"]):
        joined, left = [], []

        def ended():
            came, went = news(watcher)
            joined.extend(came)
            left.extend(went)
            return "end" in joined

        wait_until(ended, "not told of the end")
    assert (joined, left) == (["end"], [])
    ann.close()
    watcher.close()


def test_half_open_client_is_gone_within_ping_and_pong(start_cluster):
    _, (a,) = start_cluster(1, {**CONFIG, "limits": {"ping": "400ms", "pong": "400ms"}})
    wait_settled(a)
    # It never answers a ping, and its end is never heard of.
    silent = Native(a.url, token("ann"), groups=["here:1"])
    since = time.monotonic()
    wait_until(lambda: counts(a, "here:1") == (1, 0), "the connection is still there")
    assert silent._socket.fileno() >= 0  # it has not closed
    wait_until(lambda: counts(a, "here:1") == (0, 0), "the user is still there")
    assert time.monotonic() - since >= GRACE_S
    silent.abort()


def test_joins_of_a_crowd_arrive_in_few_events(cluster):
    _, (a, b) = cluster
    watcher, _ = watch(a, "here:crowd")
    clients = [Native((a, b)[n % 2].url, token(f"u{n}"), hello=False) for n in range(200)]
    for n, client in enumerate(clients):
        client.send("hello", token=token(f"u{n}"), groups=["here:crowd"])
    with Crowd(a.url, 900, "/crowd"), Crowd(b.url, 900, "/crowd"):
        wait_counts(a, "here:crowd", 201, 2001)
        check_crowd(watcher)
    wait_counts(a, "here:crowd", 201, 201)
    for client in clients:
        client.abort()
    watcher.close()


def check_crowd(watcher):
    frames, there = [], {"watch"}

    def all_told():
        frames.extend(f for f in watcher.settled() if f["type"] == "presence")
        return frames and (frames[-1]["users"], frames[-1]["connections"]) == (201, 2001)

    wait_until(all_told, "not told of all")
    for frame in frames:
        there |= set(frame.get("join", []))
    # As many as there are quarters of a second, whatever the number of joins.
    assert len(there) == 201 and len(frames) <= 40


def test_errors_name_what_is_wrong(cluster):
    router, (a, _) = cluster

    def error(path, headers=None):
        answer = a.api.request("GET", path, headers=headers)
        return answer.status, answer.json["error"]["code"], answer.json["error"].get("field")

    assert error("/v1/presence") == (400, "missing_field", "group")
    assert error("/v1/presence?group=") == (400, "bad_group", "group")
    assert error("/v1/presence?group=%0A") == (400, "bad_group", "group")
    assert error("/v1/presence?group=off") == (400, "bad_field", "group")
    assert error("/v1/presence?group=here:1&limit=x") == (400, "bad_field", "limit")
    assert error("/v1/presence?group=here:1&after=0") == (400, "bad_field", "after")
    assert error("/v1/users/%0A") == (400, "bad_field", "user")
    assert error("/v1/users/") == (404, "not_found", None)
    wrong = {"Authorization": "Bearer wrong"}
    assert error("/v1/presence?group=here:1", wrong) == (401, "key_invalid", None)
    assert error("/v1/users/ann", wrong) == (401, "key_invalid", None)
    assert a.api.post("/v1/presence?group=here:1", {}).status == 405
    with Native(a.url, token("ann"), groups=["off"]) as ann:
        for command in ("join", "presence"):
            with pytest.raises(Error) as refused:
                ann.command(command, group="off", presence=True)
            assert refused.value.code == "bad_field"
            assert refused.value.frame["message"] == "presence is off for this group"
        with pytest.raises(Error) as refused:
            ann.command("presence", group="here:other")
        assert refused.value.code == "forbidden"
    router.kill()
    a.wait_for("link.silent")
    assert error("/v1/presence?group=here:1") == (503, "no_router", None)
    assert error("/v1/users/ann") == (503, "no_router", None)
