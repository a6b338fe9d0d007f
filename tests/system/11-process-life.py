"""How processes start, refuse to start, run short of descriptors and end."""

import pathlib
import re
import signal
import socket
import subprocess

import pytest

from command import run
from native import Native
from peal import ROOT, Peal
from rawws import RawWebSocket
from tokens import token

VERBS = (
    "dev node router pub sub inbox token keygen check-config print-config version".split()
)


def refused(server):
    """Starts what must not start; returns its exit code and what it said."""
    server.launch()
    return server.exit_code(), server.log.text()


# Refusing to start


def test_unknown_key_is_78_and_names_file_and_line(tmp_path):
    path = tmp_path / "peal.yaml"
    path.write_text("listen: 127.0.0.1:0\nlimits:\n  message: 64KiB\n  mesage: 64KiB\n")
    for verb in (["dev", "-c"], ["node", "-c"], ["router", "-c"], ["check-config"]):
        done = run(*verb, path, cwd=tmp_path)
        assert done.returncode == 78, done
        assert f'{path}:4: unknown key "mesage" in limits' in done.stderr
        assert done.stdout == ""


@pytest.mark.parametrize(
    "text, told",
    [
        ("listen: [1]\n", ":1: listen"),
        ("workers: many\n", ":1: workers"),
        ("workers: 65\n", ":1: workers"),
        ("limits: {ping: 25}\n", ":1: limits.ping"),
        ("limits: {message: 5MiB}\n", ":1: limits.message"),
        ("a: 1\n\tb: 2\n", ":2"),
        ("listen: a\nlisten: b\n", ":2"),
        ("routes:\n  - {path: /a}\n", ":2: routes.0"),
        ("routes:\n  - {path: /a, dialect: telepathy}\n", ":2: routes.0.dialect"),
        ("auth: {keys: [{alg: HS256, secret: short}]}\n", ":1: auth.keys.0"),
        ("auth: {keys: [{alg: none, secret: x}]}\n", ":1: auth.keys.0.alg"),
    ],
)
def test_wrong_setting_is_78_and_named_with_its_line(tmp_path, text, told):
    path = tmp_path / "peal.yaml"
    path.write_text(text)
    done = run("check-config", path)
    assert done.returncode == 78, done
    assert f"{path}{told}" in done.stderr


@pytest.mark.parametrize(
    "name, value", [("PEAL_LIMITS__MESAGE", "1KiB"), ("PEAL_WORKERS", "many"), ("PEAL_LISTEN", "x")]
)
def test_wrong_environment_is_78(name, value):
    done = run("print-config", env={name: value})
    assert done.returncode == 78
    assert name in done.stderr


def test_missing_file_is_78(tmp_path):
    done = run("dev", "-c", tmp_path / "nothing.yaml")
    assert done.returncode == 78
    assert "nothing.yaml" in done.stderr


@pytest.mark.parametrize("key", ["listen", "api"])
def test_port_in_use_is_69_and_says_so(tmp_path, key):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        code, log = refused(Peal(tmp_path, {key: {"listen": where} if key == "api" else where}))
    assert code == 69
    assert where in log and "another process uses this port" in log


@pytest.mark.parametrize("door", ["pull", "rpc"])
def test_door_in_use_is_69_and_says_so(tmp_path, door):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        doors = {"pull": "tcp://127.0.0.1:*", "rpc": "tcp://127.0.0.1:*", door: where}
        code, log = refused(Peal(tmp_path, {"doors": doors}))
    assert code == 69
    assert where in log


def test_one_port_for_browsers_and_backends_is_69(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        where = f"127.0.0.1:{free.getsockname()[1]}"
    code, log = refused(Peal(tmp_path, {"listen": where, "api": {"listen": where}}))
    assert code == 69
    assert "api.listen" in log


def test_port_of_a_running_server_is_69_for_the_next_one(peal, tmp_path):
    code, log = refused(Peal(tmp_path / "second", {"listen": peal.url.split("//")[1]}))
    assert code == 69
    assert "another process uses this port" in log


def test_data_folder_of_another_process_is_75_and_names_it(peal, tmp_path):
    code, log = refused(Peal(tmp_path / "second", {"data": peal.config["data"]}))
    assert code == 75
    assert re.search(rf"\b{peal.pid}\b", log), log
    assert peal.api.post("/v1/publish", {"user": "alice", "data": 1}).status == 200


def test_data_folder_is_free_again_after_a_kill(peal):
    peal.kill()
    peal.start()
    assert peal.api.get("/readyz").status == 200


def test_data_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    code, log = refused(Peal(tmp_path, {"data": str(tmp_path / "file" / "data")}))
    assert code in (69, 78)
    assert str(tmp_path / "file") in log


# The command line


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_shows_how_it_is_used(verb):
    for words in ([verb, "--help"], ["help", verb], ["--help", verb]):
        done = run(*words)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"usage: peal {verb}")


def test_help_lists_every_verb():
    done = run("--help")
    assert done.returncode == 0
    for verb in VERBS:
        assert re.search(rf"^  {verb} +\w", done.stdout, re.MULTILINE), verb


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["sing"],
        ["dev", "--loud"],
        ["dev", "extra"],
        ["dev", "-c"],
        ["pub", "1"],
        ["pub", "--group", "g"],
        ["pub", "--group", "g", "--user", "u", "1"],
        ["pub", "--group", "g", "{"],
        ["pub", "--group", "g", "--ttl", "soon", "1"],
        ["sub"],
        ["inbox"],
        ["token"],
        ["token", "--user", ""],
        ["keygen"],
        ["keygen", "a", "b"],
        ["check-config"],
    ],
)
def test_wrong_command_line_is_64(words):
    done = run(*words)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr


def test_server_that_is_not_there_is_69(tmp_path):
    key = tmp_path / "key"
    key.write_text("k")
    secret = tmp_path / "token.secret"
    secret.write_text("s" * 40)
    nowhere = ["--api", "http://127.0.0.1:1", "--key-file", key]
    for words in (
        ["pub", "--group", "g", *nowhere, "1"],
        ["inbox", "alice", *nowhere],
        ["sub", "--group", "g", "--url", "ws://127.0.0.1:1/v1/ws", "--data", tmp_path],
        ["pub", "--group", "g", "--rpc", "tcp://127.0.0.1:1", "--timeout", "200ms", "1"],
        ["pub", "--group", "g", "--zmq", "tcp://127.0.0.1:1", "--timeout", "200ms", "1"],
    ):
        done = run(*words)
        assert done.returncode == 69, done
        assert re.match(r"peal: \w+: ", done.stderr), done


def test_refusal_of_a_server_is_1_with_its_code(peal, tmp_path):
    key = tmp_path / "key"
    key.write_text("wrong")
    done = run("pub", "--group", "g", "--api", peal.api_url, "--key-file", key, "1")
    assert done.returncode == 1
    assert done.stderr.startswith("peal: key_invalid: ")


def test_version_is_printed():
    for words in (["version"], ["--version"]):
        done = run(*words)
        assert done.returncode == 0
        assert re.fullmatch(r"peal \d+\.\d+\.\d+\n", done.stdout)


def test_printed_config_is_loaded_again_to_the_same(tmp_path):
    first = run("print-config", "--set", "workers=3", "--set", "limits.message=1KiB")
    assert first.returncode == 0
    path = tmp_path / "printed.yaml"
    path.write_text(first.stdout)
    assert run("print-config", "-c", path).stdout == first.stdout


# Ending


def test_sigterm_tells_clients_to_come_back_elsewhere_and_ends_with_0(start_peal):
    route = {"path": "/raw", "dialect": "raw", "identity": "anonymous"}
    server = start_peal({"routes": [route]})
    native = [Native(server.url, token(f"user-{n}")) for n in range(20)]
    raw = RawWebSocket(server.url, "/raw")
    half_open = server.web.connect()
    half_open.sendall(b"GET /raw HTTP/1.1\r\n")
    server.stop(expect=0)
    assert [client.wait_closed() for client in native] == [4301] * 20
    assert raw.recv_close() == (4301, "drain")
    half_open.close()


def test_sigint_ends_as_sigterm_does(peal):
    client = Native(peal.url, token("alice"))
    peal.signal(2)
    assert client.wait_closed() == 4301
    assert peal.exit_code() == 0


def test_client_that_does_not_answer_does_not_hold_up_the_end(start_peal):
    server = start_peal()
    mute = RawWebSocket(server.url, "/v1/ws", rcvbuf=4096)
    server.stop(expect=0)
    assert mute.recv_close()[0] == 4301


def test_stored_messages_are_there_after_a_clean_end(peal):
    receipt = peal.api.post("/v1/publish", {"user": "alice", "data": 1}).json
    peal.stop()
    peal.start()
    (message,) = peal.api.get("/v1/inbox/alice").json["messages"]
    assert message["id"] == receipt["id"]


@pytest.mark.parametrize("verb", ["router", "node"])
def test_router_and_node_end_with_0(start_cluster, verb):
    router, (node,) = start_cluster(nodes=1)
    {"router": router, "node": node}[verb].stop(expect=0)


def test_readyz_is_503_without_a_router(start_cluster):
    router, (node,) = start_cluster(nodes=1)
    assert (router.api.get("/readyz").status, node.api.get("/readyz").status) == (200, 200)
    with Native(node.url, token("alice")) as client:
        router.kill()
        assert client.next("degraded")["on"] is True
    assert (node.api.get("/livez").status, node.api.get("/readyz").status) == (200, 503)


# Descriptors


def descriptors(server):
    return len(list(pathlib.Path(f"/proc/{server.pid}/fd").iterdir()))


def test_descriptors_that_run_out_hurt_nobody_and_come_back(start_peal):
    wrapper = ["prlimit", "--nofile=64:64"]
    server = start_peal(args=["--set", "workers=1"], wrapper=wrapper)
    first = Native(server.url, token("first"))
    crowd = []
    try:
        start = len(server.log.lines)
        while not any("accept.paused" in line for line in server.log.lines[start:]):
            assert len(crowd) < 100
            crowd.append(server.web.connect())
            # Answered when it was accepted; else the log line comes.
            crowd[-1].sendall(b"GET /nothing HTTP/1.1\r\n")
            assert first.command("ping")["type"] == "pong"
        assert first.command("ping")["type"] == "pong"
    finally:
        for sock in crowd:
            sock.close()
    # Accepting rests for a moment; a client that connects now waits and gets in.
    with Native(server.url, token("second")) as second:
        assert second.command("ping")["type"] == "pong"
    assert first.command("ping")["type"] == "pong"
    assert descriptors(server) < 64
    first.close()


# The program itself


def inspect(*command):
    # The release is what is shipped; what is built for tests is hardened alike but for fortify.
    release = ROOT / "build/release/peal"
    if not release.is_file():
        pytest.skip("build/release/peal is not built")
    return subprocess.run(
        [*command, str(release)], capture_output=True, text=True, check=True
    ).stdout


def readelf(*options):
    return inspect("readelf", "-W", *options)


def test_release_is_hardened():
    assert re.search(r"Type:\s+DYN", readelf("-h"))  # position independent
    segments = readelf("-l")
    assert "GNU_RELRO" in segments
    assert re.search(r"GNU_STACK.* RW ", segments)  # no code on the stack
    dynamic = readelf("-d")
    assert re.search(r"BIND_NOW|FLAGS.*NOW", dynamic)  # relocations are final before main
    assert "TEXTREL" not in dynamic and "RPATH" not in dynamic and "RUNPATH" not in dynamic
    symbols = readelf("--dyn-syms")
    assert "__stack_chk_fail" in symbols  # canaries
    assert re.search(r"__\w+_chk@", symbols.replace("__stack_chk_fail", ""))  # fortified libc calls
    # Targets of indirect jumps are marked. (The note that says so for the whole program is lost
    # by the C library's start files, which Debian builds without it.)
    assert "endbr64" in inspect("objdump", "-d", "--disassemble=main")


def test_all_workers_say_drain_before_one_has_waited_for_its_clients(start_peal):
    live = {"path": "/live", "dialect": "raw", "identity": "anonymous", "join": ["live"]}
    server = start_peal({"log_level": "debug", "workers": 4, "routes": [live]})
    clients = [RawWebSocket(server.url, "/live") for _ in range(40)]
    server.signal(signal.SIGTERM)
    # Nobody answers the Close, so that connections end when their worker has waited for long.
    assert server.exit_code() == 0
    events = [line.split(" ")[2] for line in server.log.lines]
    first_end = events.index("conn.ended")
    assert events[:first_end].count("conn.closed") == len(clients)
