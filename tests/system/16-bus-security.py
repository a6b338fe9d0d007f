"""CURVE on the bus: who gets in at which door, and what a process refuses to start with."""

import msgpack
import pytest
import zmq

from bus import OTHER_MECHANISM, Keys, wait_counted, wait_ready, wait_refused, zmq_socket
from command import run
from metrics import read_metrics, total
from native import Native
from peal import Peal
from tokens import token

CONFIG = {"groups": [{"match": "room:*", "join": "anyone"}]}
NAMES = ("router", "node", "shop", "stranger", "old")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    made = Keys(tmp_path_factory.mktemp("keys")).make(*NAMES)
    return made.allow(node="node", shop="publisher")


@pytest.fixture
def router(start_peal, keys):
    return start_peal({**CONFIG, **keys.router()}, verb="router")


@pytest.fixture
def cluster(start_peal, keys, router):
    return router, start_peal({**CONFIG, **keys.node(router)}, verb="node")


def call(messages):
    return msgpack.packb({"op": "publish", "req": 1, "messages": messages})


def pub(keys, name, *args, server="router"):
    # Who is refused hears nothing, however long the wait.
    timeout = "20s" if (name, server) == ("shop", "router") else "300ms"
    return run(
        *("pub", "--group", "room:1", "--bus-key", keys.file(name)),
        *("--router-key", keys.public[server], "--timeout", timeout, *args),
    )


# Who has the right key


def test_node_and_publishers_with_keys_work(keys, cluster):
    router, node = cluster
    with Native(node.url, token("ann"), groups=["room:1"]) as ann:
        assert node.api.post("/v1/publish", {"group": "room:1", "data": 1}).status == 200
        with zmq_socket(router.doors["pull"], zmq.PUSH, keys.curve("shop")) as door:
            door.send(msgpack.packb({"group": "room:1", "data": 2}))
            assert [m["data"] for m in ann.messages(2)] == [1, 2]
        with zmq_socket(router.doors["rpc"], zmq.REQ, keys.curve("shop")) as door:
            door.send(call([{"group": "room:1", "data": 3}]))
            (result,) = msgpack.unpackb(door.recv())["results"]
            assert result["ack"] == "routed"
        done = pub(keys, "shop", "--rpc", router.doors["rpc"], "4")
        assert done.returncode == 0 and '"routed"' in done.stdout, done
        done = pub(keys, "shop", "--zmq", router.doors["pull"], "5")
        assert (done.returncode, done.stdout) == (0, ""), done
        assert [m["data"] for m in ann.messages(3)] == [3, 4, 5]
    metrics = read_metrics(router)
    assert total(metrics, "peal_bus_refused_total") == 0
    assert metrics["peal_bus_frames_forbidden_total"] == 0
    assert metrics["peal_bus_handshakes_total"] == metrics["peal_bus_accepted_total"] >= 6


def test_router_killed_and_started_again_takes_its_node_back(cluster):
    router, node = cluster
    with Native(node.url, token("ann"), groups=["room:1"]) as ann:
        router.kill()
        assert ann.next("degraded")["on"] is True
        router.start()
        assert ann.next("degraded")["on"] is False
        assert node.api.post("/v1/publish", {"user": "ann", "data": "after"}).status == 200
        assert ann.next("message")["data"] == "after"


def test_process_with_everything_in_it_asks_publishers_for_keys_and_itself_for_none(
    start_peal, keys
):
    server = start_peal(keys.router())
    with Native(server.url, token("ann"), groups=["room:1"]) as ann:
        assert pub(keys, "shop", "--rpc", server.doors["rpc"], "1").returncode == 0
        assert pub(keys, "stranger", "--rpc", server.doors["rpc"], "2").returncode == 69
        assert pub(keys, "shop", "--zmq", server.doors["pull"], "3").returncode == 0
        assert [m["data"] for m in ann.messages(2)] == [1, 3]


# Who has not


@pytest.mark.parametrize("door, kind", [("pull", zmq.PUSH), ("rpc", zmq.DEALER), ("xpub", zmq.SUB)])
@pytest.mark.parametrize("who", ["stranger", "nobody", "wrong router"])
def test_handshake_without_a_right_key_is_refused_and_counted(keys, router, door, kind, who):
    curve, reasons = {
        "stranger": (keys.curve("stranger"), ["key"]),
        "nobody": (None, OTHER_MECHANISM),
        "wrong router": (keys.curve("node", server="old"), ["protocol"]),
    }[who]
    with zmq_socket(router.doors[door], kind, curve) as peer:
        if kind == zmq.SUB:
            peer.subscribe(b"")
        else:
            peer.send(call([{"user": "ann", "data": 1}]))
        wait_refused(router, reasons)
    line = router.log.lines[router.wait_for("bus.refused", door=door)]
    assert any(f" reason={reason} " in line for reason in reasons)
    metrics = read_metrics(router)
    assert metrics["peal_bus_handshakes_total"] == 0
    assert metrics["peal_publishes_accepted_total"] == metrics["peal_router_nodes"] == 0


def test_publish_without_a_right_key_never_arrives(keys, cluster):
    router, node = cluster
    with Native(node.url, token("ann"), groups=["room:1"]) as ann:
        with (
            zmq_socket(router.doors["pull"], zmq.PUSH) as plain,
            zmq_socket(router.doors["pull"], zmq.PUSH, keys.curve("stranger")) as strange,
            zmq_socket(router.doors["pull"], zmq.PUSH, keys.curve("shop")) as right,
        ):
            for n, door in enumerate((plain, strange, right)):
                door.send(msgpack.packb({"group": "room:1", "data": n}))
            wait_refused(router, ["key"])
            wait_refused(router, OTHER_MECHANISM)
            assert ann.next("message")["data"] == 2
            assert ann.settled() == []
    assert read_metrics(router)["peal_publishes_accepted_total"] == 1


def test_publisher_hears_nothing_at_the_door_of_nodes(keys, cluster):
    router, node = cluster
    with Native(node.url, token("ann"), groups=["room:1"]) as ann:
        with zmq_socket(router.doors["xpub"], zmq.SUB, keys.curve("shop")) as spy:
            spy.subscribe(b"")
            wait_counted(router, 'peal_bus_refused_total{reason="role"}', 1)
            node.api.post("/v1/publish", {"group": "room:1", "data": "secret"})
            assert ann.next("message")["data"] == "secret"
            assert spy.poll(200) == 0
    router.wait_for("bus.refused", door="xpub", reason="role", name="shop")


def test_publisher_that_plays_a_node_is_refused_and_counted(keys, cluster):
    router, _ = cluster
    before = read_metrics(router)
    assert before["peal_router_nodes"] == 1
    with zmq_socket(
        router.doors["rpc"], zmq.DEALER, keys.curve("shop"), routing_id=b"n" + b"f" * 16
    ) as door:
        for frame in ([1, 2, "room:1"], [], list(range(20)), [1] * 70000):
            door.send(msgpack.packb(frame))
            error = msgpack.unpackb(door.recv())["error"]
            assert error["code"] == "forbidden"
        door.send(call([{"group": "room:1", "data": 1}]))
        assert "results" in msgpack.unpackb(door.recv())
    metrics = read_metrics(router)
    assert metrics["peal_bus_frames_forbidden_total"] == 4
    assert metrics["peal_router_nodes"] == 1


def test_node_refused_by_a_wrong_list_comes_in_once_it_is_right(start_peal, tmp_path):
    mine = Keys(tmp_path / "keys").make("router", "node", "late").allow(node="node")
    router = start_peal({**CONFIG, **mine.router()}, verb="router")
    node = start_peal({**CONFIG, **mine.node(router)}, verb="node")
    late = start_peal({**CONFIG, **mine.node(router, "late")}, verb="node")
    metrics = wait_counted(router, 'peal_bus_refused_total{reason="key"}', 2)
    assert metrics["peal_router_nodes"] == 1
    assert late.api.get("/readyz").status == 503
    assert node.api.get("/readyz").status == 200
    router.wait_for("bus.refused", reason="key", key=mine.public["late"])
    # Its two sockets came at the same moment: the log is not for them to fill.
    lines = [line for line in router.log.lines if " bus.refused " in line]
    assert len(lines) < total(read_metrics(router), "peal_bus_refused_total")

    router.stop()
    mine.allow(node="node", late="node")
    router.start()
    wait_counted(router, "peal_router_nodes", 2)
    wait_ready(late)
    assert late.api.post("/v1/publish", {"user": "ann", "data": 1}).status == 200


def test_router_stops_cleanly_while_strangers_knock(keys, router):
    for _ in range(3):
        with zmq_socket(router.doors["rpc"], zmq.DEALER, keys.curve("stranger")) as a:
            with zmq_socket(router.doors["pull"], zmq.PUSH) as b:
                a.setsockopt(zmq.RECONNECT_IVL, 1)
                b.setsockopt(zmq.RECONNECT_IVL, 1)
                wait_counted(router, 'peal_bus_refused_total{reason="key"}', 1)
                router.stop()
                router.check()
                router.start()


def test_publisher_of_the_command_line_is_told_when_it_is_not_let_in(keys, router):
    for name, server in (("stranger", "router"), ("shop", "old")):
        for door in ("pull", "rpc"):
            option = "--zmq" if door == "pull" else "--rpc"
            done = pub(keys, name, option, router.doors[door], "1", server=server)
            assert (done.returncode, done.stdout) == (69, ""), done
    done = pub(keys, "shop", "--rpc", router.doors["rpc"], "1", server="shop")
    assert done.returncode == 69
    done = run("pub", "--group", "g", "--rpc", router.doors["rpc"], "--bus-key", "x", "1")
    assert done.returncode == 64
    done = run(
        *("pub", "--group", "g", "--rpc", router.doors["rpc"], "--bus-key", keys.file("shop")),
        *("--router-key", "short", "1"),
    )
    assert done.returncode == 64


# Secrets


def test_secret_key_is_shown_nowhere(keys, cluster, tmp_path):
    router, node = cluster
    secrets = [keys.secret(name) for name in NAMES]
    seen = run("print-config", "-c", router.directory / "peal.yaml").stdout
    assert str(keys.file("router")) in seen
    for server in cluster:
        seen += server.log.text() + server.stdout()
        with open(f"/proc/{server.pid}/cmdline", encoding="utf-8") as file:
            seen += file.read()
        seen += server.api.get("/metrics").body.decode()
    keys_again = run("keygen", tmp_path / "new")
    seen += keys_again.stdout + keys_again.stderr
    text = (tmp_path / "new").read_text()
    secrets.append(text.split("secret ")[1].strip())
    wrong = tmp_path / "wrong"
    wrong.write_text(text.replace("public ", "publik "))
    wrong.chmod(0o600)
    refused = Peal(tmp_path / "peal", {"bus": {"key_file": str(wrong)}}, verb="router")
    refused.launch()
    assert refused.exit_code() == 78
    seen += refused.log.text()
    assert not [secret for secret in secrets if secret in seen]


def test_keygen_makes_a_private_file_once(tmp_path):
    path = tmp_path / "key"
    first = run("keygen", path)
    assert first.returncode == 0 and len(first.stdout) == 41
    assert path.stat().st_mode & 0o7777 == 0o600
    before = path.read_bytes()
    second = run("keygen", path)
    assert (second.returncode, second.stdout) == (78, "")
    assert str(path) in second.stderr and path.read_bytes() == before
    assert run("keygen", tmp_path / "nowhere" / "key").returncode == 69
