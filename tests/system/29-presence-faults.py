"""Who is there while processes die: nobody is forgotten, nobody stays, and no storm is told."""

import importlib

import pytest

from native import Native
from peal import wait_until
from tokens import token

here = importlib.import_module("28-presence")

GROUP = "here:1"


@pytest.fixture
def cluster(start_cluster):
    router, nodes = start_cluster(2, here.CONFIG)
    here.wait_settled(nodes[0])
    return router, nodes


def test_people_of_a_killed_node_leave_after_the_grace_but_who_comes_back_stays(cluster):
    _, (a, b) = cluster
    watcher, _ = here.watch(b, GROUP)
    clients = {name: Native(a.url, token(name), groups=[GROUP]) for name in ("ann", "bob", "cid")}
    told = {"watch"}
    wait_until(lambda: here.follow(watcher, told) == {"watch", *clients}, "told of all")
    a.kill()
    ann = Native(b.url, token("ann"), groups=[GROUP])
    joined, left = [], []

    def both_left():
        came, went = here.news(watcher)
        joined.extend(came)
        left.extend(went)
        return len(left) >= 2

    wait_until(both_left, "told of the leaves")
    assert (joined, sorted(left)) == ([], ["bob", "cid"])
    here.wait_counts(b, GROUP, 2, 2)
    assert b.api.get("/v1/users/bob").json["online"] is False
    for client in clients.values():
        client.abort()
    ann.close()
    watcher.close()


def test_router_restart_settles_and_is_right_again_without_a_storm(cluster):
    router, (a, b) = cluster
    watcher, _ = here.watch(a, GROUP)
    users = [f"u{n}" for n in range(40)]
    clients = [Native((a, b)[n % 2].url, token(u), groups=[GROUP]) for n, u in enumerate(users)]
    told = {"watch"}
    wait_until(lambda: here.follow(watcher, told) == {"watch", *users}, "told of all")
    router.kill()
    # Who leaves meanwhile is nowhere to be told.
    for node in (a, b):
        node.wait_for("link.silent")
    clients.pop().abort()
    clients.pop().abort()
    router.start()
    # The first answer of its new life says that it is not the whole truth.
    path = f"/v1/presence?group={GROUP}"
    wait_until(lambda: a.api.get(path).status == 200, "linked")
    assert here.presence(a, GROUP)["settling"] is True
    here.wait_counts(b, GROUP, 39, 39)
    here.wait_there(a, GROUP, "watch", *users[:-2])
    here.wait_settled(a, GROUP)
    here.wait_counts(a, GROUP, 39, 39)
    frames = []

    def told_at_the_end():
        frames.extend(f for f in watcher.settled() if f["type"] == "presence")
        return frames and frames[-1].get("truncated")

    wait_until(told_at_the_end, "told that the router has settled")
    assert (frames[-1]["users"], frames[-1]["connections"]) == (39, 39)
    assert not any("join" in f or "leave" in f for f in frames)
    # The list that came with the new life of the router said that it was not yet everybody.
    assert all(f.get("settling") for f in frames if "list" in f)
    reply = watcher.command("presence", group=GROUP)
    assert sorted(reply["list"]) == sorted(["watch", *users[:-2]])
    for client in [*clients, watcher]:
        client.abort()
