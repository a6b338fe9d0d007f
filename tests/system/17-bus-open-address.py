"""What a process with an open or half-secured bus refuses to start with."""

import pytest

from bus import Keys
from command import run
from peal import Peal


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    made = Keys(tmp_path_factory.mktemp("keys")).make("router", "node", "shop", "stranger")
    return made.allow(node="node", shop="publisher")


def publish(keys, name, door):
    """The exit code of a publish with these keys."""
    timeout = "20s" if name == "shop" else "300ms"
    done = run(
        *("pub", "--group", "g", "--rpc", door, "--bus-key", keys.file(name)),
        *("--router-key", keys.public["router"], "--timeout", timeout, "1"),
    )
    return done.returncode


def refused(directory, config, verb):
    server = Peal(directory, config, verb=verb).launch()
    return server.exit_code(), server.log.text()


OPEN = ("0.0.0.0", "router-0", "[::]", "10.0.0.1", "*", "127.1", "lo")
LOCAL = ("127.0.0.1", "[::1]", "127.0.0.2")


@pytest.mark.parametrize("host", OPEN)
def test_open_address_without_keys_is_78_and_names_the_setting(tmp_path, host):
    at = f"tcp://{host}:7"
    doors = {"pull": "tcp://127.0.0.1:*", "xpub": "tcp://127.0.0.1:*", "rpc": "tcp://127.0.0.1:*"}
    for verb, name in (("router", "pull"), ("router", "xpub"), ("router", "rpc"), ("dev", "rpc")):
        config = {"doors": {**doors, name: at}}
        code, log = refused(tmp_path / verb / name, config, verb)
        assert code == 78, log
        assert f"doors.{name}: {at} " in log and "bus.key_file" in log
    there = {"pull": "tcp://127.0.0.1:7", "xpub": "tcp://127.0.0.1:7", "rpc": at}
    if host != "*":
        code, log = refused(tmp_path / "node", {"cluster": {"routers": [there]}}, "node")
        assert code == 78 and f"cluster.routers.0.rpc: {at} " in log


@pytest.mark.parametrize("host", LOCAL)
def test_loopback_without_keys_starts(start_peal, host):
    doors = {name: f"tcp://{host}:*" for name in ("pull", "xpub", "rpc")}
    router = start_peal({"doors": doors}, verb="router")
    assert "bus.insecure" not in router.log.text()
    assert all(host in door for door in router.doors.values())


def test_localhost_is_loopback_for_who_connects(start_peal):
    router = start_peal(verb="router")
    there = {name: door.replace("127.0.0.1", "localhost") for name, door in router.doors.items()}
    node = start_peal({"cluster": {"routers": [there]}}, verb="node")
    assert node.api.get("/readyz").status == 200


def test_open_address_starts_when_told_that_it_may_and_says_so(start_peal):
    doors = {name: "tcp://0.0.0.0:*" for name in ("pull", "xpub", "rpc")}
    router = start_peal({"doors": doors, "bus": {"insecure": True}}, verb="router")
    router.wait_for("bus.insecure", setting="doors.pull", endpoint="tcp://0.0.0.0:*")


def test_check_config_warns_of_an_insecure_bus(tmp_path):
    path = tmp_path / "peal.yaml"
    path.write_text("bus: {insecure: true}\n")
    done = run("check-config", path)
    assert done.returncode == 0 and "bus.insecure" in done.stderr
    path.write_text("bus: {insecure: false}\n")
    assert run("check-config", path).stderr == ""


def test_open_address_starts_with_keys(start_peal, keys):
    doors = {name: "tcp://0.0.0.0:*" for name in ("pull", "xpub", "rpc")}
    router = start_peal({"doors": doors, **keys.router()}, verb="router")
    assert "bus.insecure" not in router.log.text()
    door = router.doors["rpc"].replace("0.0.0.0", "127.0.0.1")
    assert publish(keys, "shop", door) == 0
    assert publish(keys, "stranger", door) == 69


def test_key_file_that_others_can_read_is_78_and_named(tmp_path, keys):
    path = tmp_path / "key"
    assert run("keygen", path).returncode == 0
    path.chmod(0o640)
    bus = {"key_file": str(path), "peers_file": str(keys.peers_file)}
    code, log = refused(tmp_path / "peal", {"bus": bus}, "router")
    assert code == 78
    assert f"bus.key_file: {path}" in log and "0640" in log


def test_peers_file_with_an_error_is_78_and_names_its_line(tmp_path, keys):
    peers = tmp_path / "peers"
    peers.write_text(f"# a\n{keys.public['node']} node\n{keys.public['shop']} boss\n")
    peers.chmod(0o644)
    bus = {"key_file": str(keys.file("router")), "peers_file": str(peers)}
    code, log = refused(tmp_path / "peal", {"bus": bus}, "router")
    assert code == 78
    assert f"bus.peers_file: {peers}:3: the role is neither" in log


def test_router_key_that_is_none_is_78_and_named(tmp_path):
    there = {name: "tcp://127.0.0.1:7" for name in ("pull", "xpub", "rpc")}
    config = {"cluster": {"routers": [{**there, "key": "short"}]}}
    code, log = refused(tmp_path, config, "node")
    assert code == 78 and "cluster.routers.0.key" in log
