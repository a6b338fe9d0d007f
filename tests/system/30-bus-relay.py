"""CURVE at relays: who hears what they hand on, and what they refuse to start with."""

import pytest
import zmq

from bus import OTHER_MECHANISM, Keys, wait_refused, zmq_socket
from metrics import read_metrics, total
from native import Native
from peal import Peal
from tokens import token

CONFIG = {"groups": [{"match": "room:*", "join": "anyone"}]}
LOCAL = "tcp://127.0.0.1:7"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    made = Keys(tmp_path_factory.mktemp("keys"))
    made.make("router", "relay", "node", "shop", "stranger", "old")
    return made.allow(relay="node", node="node", shop="publisher")


@pytest.fixture
def relayed(start_peal, keys):
    router = start_peal({**CONFIG, **keys.router()}, verb="router")
    return router, start_peal(keys.relay(router), verb="relay")


def test_node_hears_a_relay_that_knows_it_and_that_it_knows(start_peal, keys, relayed):
    router, relay = relayed
    node = start_peal({**CONFIG, **keys.node_via(router, relay)}, verb="node")
    with Native(node.url, token("ann"), groups=["room:1"]) as ann:
        assert node.api.post("/v1/publish", {"group": "room:1", "data": 1}).status == 200
        assert ann.next("message")["data"] == 1
        relay.kill()
        assert ann.next("degraded")["on"] is True
        relay.start()
        assert ann.next("degraded")["on"] is False
        assert node.api.post("/v1/publish", {"group": "room:1", "data": 2}).status == 200
        assert ann.next("message")["data"] == 2
    for process in (router, relay):
        metrics = read_metrics(process)
        assert total(metrics, "peal_bus_refused_total") == 0
        assert metrics["peal_bus_handshakes_total"] >= 1


@pytest.mark.parametrize("who, reasons", [
    ("stranger", ["key"]), ("shop", ["role"]), ("nobody", OTHER_MECHANISM),
    ("wrong relay", ["protocol"]),
])
def test_door_of_a_relay_is_closed_to_all_but_nodes(keys, relayed, who, reasons):
    router, relay = relayed
    (door,) = relay.doors["xpub"]
    curve = {
        "nobody": None,
        "wrong relay": keys.curve("node", server="old"),
    }.get(who, keys.curve(who, server="relay") if who in keys.public else None)
    with zmq_socket(door, zmq.SUB, curve) as spy:
        spy.subscribe(b"")
        wait_refused(relay, reasons)
        assert spy.poll(200) == 0
    line = relay.log.lines[relay.wait_for("bus.refused", door="relay")]
    assert any(f" reason={reason} " in line for reason in reasons)
    metrics = read_metrics(relay)
    assert metrics["peal_bus_handshakes_total"] == metrics["peal_relay_subscriptions"] == 0
    # The relay itself was let in by the router, and is ready.
    assert metrics["peal_relay_uplinks"] == 1
    assert relay.api.get("/readyz").status == 200


def test_relay_that_the_router_does_not_know_is_not_ready(start_peal, keys, tmp_path):
    mine = Keys(tmp_path / "keys").make("router", "relay").allow(relay="publisher")
    router = start_peal({**CONFIG, **mine.router()}, verb="router")
    relay = start_peal(mine.relay(router), verb="relay")
    wait_refused(router, ["role"])
    router.wait_for("bus.refused", door="xpub", reason="role", name="relay")
    assert read_metrics(relay)["peal_relay_uplinks"] == 0
    assert relay.api.get("/readyz").status == 503


def refused(directory, config, verb):
    server = Peal(directory, config, verb=verb).launch()
    return server.exit_code(), server.log.text()


def router_at(host, **more):
    return {name: f"tcp://{host}:7" for name in ("pull", "xpub", "rpc")} | more


def test_relay_without_keys_refuses_open_addresses_and_names_them(tmp_path):
    there = {"cluster": {"routers": [router_at("127.0.0.1")]}}
    for doors, name in (
        ({"relay": ["tcp://*:7"]}, "doors.relay.0: tcp://*:7 "),
        ({"xpub": "tcp://10.0.0.1:7"}, "doors.xpub: tcp://10.0.0.1:7 "),
    ):
        code, log = refused(tmp_path / name[:11], {**there, "doors": doors}, "relay")
        assert code == 78 and name in log and "bus.key_file" in log, log
    far = {"cluster": {"routers": [router_at("router-0")]}, "doors": {"relay": [LOCAL]}}
    code, log = refused(tmp_path / "far", far, "relay")
    assert code == 78 and "cluster.routers.0.xpub: tcp://router-0:7 " in log, log
    via = {"cluster": {**there["cluster"], "via": [{"xpub": ["tcp://relay:7"]}]}}
    code, log = refused(tmp_path / "via", via, "node")
    assert code == 78 and "cluster.via.0.xpub.0: tcp://relay:7 " in log, log


def test_keys_of_only_one_side_are_78_and_name_what_is_missing(tmp_path, keys):
    routers = [router_at("127.0.0.1", key=keys.public["router"])]
    via = [{"xpub": [LOCAL]}]
    with_key = {"key_file": str(keys.file("relay"))}
    for verb, bus, cluster, missing in (
        ("relay", with_key, {"routers": routers}, "bus.peers_file: needed"),
        (
            "relay", {**with_key, "peers_file": str(keys.peers_file)},
            {"routers": [router_at("127.0.0.1")]}, "cluster.routers.0.key: needed",
        ),
        ("node", with_key, {"routers": routers, "via": via}, "cluster.via.0.key: needed"),
        (
            "node", {}, {"routers": [router_at("127.0.0.1")],
                         "via": [{**via[0], "key": keys.public["relay"]}]},
            "cluster.via.0.key: needs bus.key_file",
        ),
    ):
        config = {"bus": bus, "cluster": cluster, "doors": {"relay": ["tcp://127.0.0.1:*"]}}
        code, log = refused(tmp_path / missing.replace(":", ""), config, verb)
        assert code == 78 and missing in log, log
