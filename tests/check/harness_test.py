"""The harness of the system tests, tried on servers that are not ours."""

import asyncio
import contextlib
import http
import json
import threading

import jwt
import pytest
import websockets

import native
import rawws
from peal import SECRET, Peal, event_fields
from tokens import token
from web import Http

# Says where it listens, logs what it is told to and ends on SIGTERM with the code it is told.
PROGRAM = r"""#!/usr/bin/python3
import http.server, json, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        answer = [self.path, self.headers["Authorization"], body.decode()]
        self.wfile.write(json.dumps(answer).encode())
    def log_message(self, *_):
        pass
config = json.load(open(sys.argv[sys.argv.index("-c") + 1]))
host, port = config["listen"].split(":")
print("T info node.started port=%s name=\"a b\"" % port, file=sys.stderr, flush=True)
if "LOG" in os.environ:
    print(os.environ["LOG"], file=sys.stderr, flush=True)
if "DIE" in os.environ:
    os._exit(3)
server = http.server.HTTPServer((host, int(port)), Handler)
signal.signal(signal.SIGTERM, lambda *_: os._exit(int(os.environ.get("CODE", "0"))))
url = "http://127.0.0.1:%d/" % server.server_port
print("peal: ready", "router" if sys.argv[1] == "router" else url)
print("peal: api", url, flush=True)
if sys.argv[1] != "node":
    print("peal: doors pull=tcp://127.0.0.1:1 rpc=tcp://127.0.0.1:3 xpub=inproc://x", flush=True)
if "LATE" in os.environ:
    server.handle_request()
    os.abort()
server.serve_forever()
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    path = tmp_path / "program"
    path.write_text(PROGRAM)
    path.chmod(0o755)
    monkeypatch.setenv("PEAL_BIN", str(path))
    return tmp_path / "peal"


def test_start_learns_the_addresses_and_the_next_start_keeps_them(program):
    with Peal(program) as server:
        url = server.url
        assert url.startswith("http://127.0.0.1:")
        assert server.doors == {
            "pull": "tcp://127.0.0.1:1",
            "xpub": "inproc://x",
            "rpc": "tcp://127.0.0.1:3",
        }
        first = server.pid
        server.kill()
        server.start()
        assert server.url == url
        assert server.pid != first
        assert server.config["doors"]["pull"] == "tcp://127.0.0.1:1"
        assert server.config["doors"]["xpub"] == "tcp://127.0.0.1:*"


def test_node_has_no_doors_and_router_no_web_listener(program):
    with Peal(program / "node", verb="node") as node, Peal(program / "r", verb="router") as router:
        assert node.url == node.api_url
        assert node.doors == {}
        assert router.url is None
        assert router.doors["rpc"] == "tcp://127.0.0.1:3"


def test_program_that_ends_before_it_is_ready_is_told_with_its_log(program):
    with pytest.raises(RuntimeError, match="peal: config: bad key"):
        Peal(program, env={"LOG": "peal: config: bad key", "DIE": "1"}).start()


@pytest.mark.parametrize(
    "line",
    [
        "==1==ERROR: AddressSanitizer: heap-use-after-free on address",
        "==1==ERROR: LeakSanitizer: detected memory leaks",
        "node/ws.c:3:4: runtime error: signed integer overflow",
        "WARNING: ThreadSanitizer: data race (pid=1)",
        "peal: bug: base/map.c:10: map->count > 0",
    ],
)
def test_reports_of_bugs_fail_the_test(program, line):
    with pytest.raises(AssertionError, match="peal reports a bug"):
        with Peal(program, env={"LOG": line}):
            pass


def test_exit_code_fails_the_test(program):
    with pytest.raises(AssertionError, match="peal ended with 3"):
        with Peal(program, env={"CODE": "3"}):
            pass


def test_crash_that_nobody_awaited_fails_the_test(program):
    with pytest.raises(AssertionError, match="peal ended with -6"):
        with Peal(program, env={"LATE": "1"}) as server:
            server.api.post("/", "now")
            server.process.wait()


def test_wait_for_finds_the_line_with_its_fields(program):
    with Peal(program, env={"LOG": 'T warn conn.closed reason=slow note="x y" id=2'}) as server:
        assert server.wait_for("node.started", port=0, name="a b") == 0
        assert server.wait_for("conn.closed", reason="slow", id=2, note="x y") == 1
        with pytest.raises(TimeoutError, match="no conn.closed"):
            server.wait_for("conn.closed", timeout=0.01, reason="drain")
        with pytest.raises(TimeoutError, match="no node.started"):
            server.wait_for("node.started", start=1, timeout=0.01)
        server.kill()
        with pytest.raises(TimeoutError, match="the stream ended"):
            server.wait_for("conn.closed", reason="drain")


def test_event_fields_of_a_line_cut_inside_quotes():
    assert event_fields('T info a.b x=1 y="cut of') == ("a.b", {"x": "1", "y": '"cut'})
    assert event_fields("no log line at all") == (None, {})


def test_http_sends_the_key_and_the_body(program):
    with Peal(program) as server:
        answer = server.api.post("/v1/publish", {"data": "ä"})
        assert answer.status == 200
        assert answer.json == ["/v1/publish", "Bearer key-of-the-system-tests", '{"data": "ä"}']
        assert server.web.post("/", "x").json == ["/", None, "x"]
        assert Http(server.url).exchange(b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 501")


@contextlib.contextmanager
def websocket_server(handler):
    """The URL of a server of python3-websockets with this handler."""
    loop = asyncio.new_event_loop()
    started = threading.Event()
    url = []

    async def serve():
        options = {"subprotocols": ["peal.v1.json", "peal.v1.msgpack"], "compression": None}
        async with websockets.serve(handler, "127.0.0.1", 0, **options) as server:
            url.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            started.set()
            await stop

    stop = loop.create_future()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(10)
        yield url[0]
    finally:
        loop.call_soon_threadsafe(stop.set_result, None)
        thread.join(10)
        loop.close()


async def echo(connection):
    async for message in connection:
        if message == "close":
            await connection.close(4208, "slow")
        await connection.send(message)


def test_raw_frame_is_the_one_of_the_rfc():
    # RFC 6455 section 5.7, a single-frame masked and unmasked text message.
    key = bytes.fromhex("37fa213d")
    assert rawws.encode_frame("Hello", key=key).hex() == "818537fa213d7f9f4d5158"
    assert rawws.encode_frame("Hello", key=None).hex() == "810548656c6c6f"
    assert rawws.encode_frame(b"x" * 256, rawws.BINARY, key=None)[:4].hex() == "827e0100"
    assert rawws.encode_frame(b"x" * 65536, rawws.BINARY, key=None)[:4].hex() == "827f0000"
    assert rawws.encode_frame(b"x" * 65536, rawws.BINARY, key=None)[4:10].hex() == "000000010000"


def test_raw_connection_echoes_every_shape_of_message():
    with websocket_server(echo) as url, rawws.RawWebSocket(url, protocols=["peal.v1.json"]) as ws:
        assert ws.status == 101
        assert ws.accept_is_right
        assert ws.headers["sec-websocket-protocol"] == "peal.v1.json"
        for text in ["", "h\u00e9llo", "x" * 125, "x" * 126, "x" * 65535, "x" * 65536]:
            ws.send_text(text)
            assert ws.recv_message() == text
        ws.send_fragments([b"\x00\x01", b"", b"\xff"], rawws.BINARY)
        assert ws.recv_message() == b"\x00\x01\xff"
        ws.send_frame(b"beat", rawws.PING)
        assert ws.recv_frame() == (True, 0, rawws.PONG, b"beat")


def test_raw_connection_tells_how_the_server_closed():
    with websocket_server(echo) as url:
        with rawws.RawWebSocket(url) as ws:
            ws.send_text("close")
            assert ws.recv_close() == (4208, "slow")
        with rawws.RawWebSocket(url) as ws:
            ws.send_frame("x", rsv=4)
            assert ws.recv_close()[0] == 1002
        with rawws.RawWebSocket(url) as ws:
            ws.send_frame("x", key=None)  # unmasked
            assert ws.recv_close()[0] == 1002


def test_raw_handshake_can_be_anything():
    with websocket_server(echo) as url:
        with rawws.RawWebSocket(url, head=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as ws:
            assert ws.status == 426
            assert b"empty Connection header" in ws.read_body()
        with rawws.RawWebSocket(url, head=b"nonsense\r\n\r\n") as ws:
            assert ws.status == 400


async def native_peer(connection):
    """Answers commands and says something else before each reply."""

    def encode(value):
        if connection.subprotocol == "peal.v1.json":
            return json.dumps(value)
        return native.msgpack.packb(value)

    def decode(data):
        return json.loads(data) if isinstance(data, str) else native.msgpack.unpackb(data)

    async for data in connection:
        command = decode(data)
        kind, number = command["type"], command["id"]
        if kind == "bye":
            await connection.close(4403, "token_missing")
            return
        await connection.send(encode({"type": "message", "id": number, "data": kind}))
        if kind == "publish":
            reply = {"type": "error", "id": number, "code": "forbidden", "message": "no"}
        else:
            reply = {"type": {"hello": "welcome", "ping": "pong"}[kind], "id": number}
        await connection.send(encode({**reply, "got": command}))


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_native_client_keeps_replies_and_messages_apart(format):
    with websocket_server(native_peer) as url:
        with native.Native(url, "tok", format=format, device="d") as client:
            assert client.welcome["got"] == {
                "type": "hello",
                "id": 1,
                "token": "tok",
                "device": "d",
            }
            with pytest.raises(native.Error, match="forbidden: no") as refused:
                client.command("publish", group="g")
            assert refused.value.code == "forbidden"
            assert [frame["data"] for frame in client.messages(2)] == ["hello", "publish"]
            assert [frame["data"] for frame in client.settled()] == ["ping"]
            with pytest.raises(TimeoutError):
                client.next(timeout=0.01)
            client.send("bye")
            assert client.wait_closed() == 4403


def test_native_client_tells_a_refused_upgrade():
    async def refuse(path, _headers):
        return (http.HTTPStatus.UNAUTHORIZED, [], b"token_invalid")

    async def serve():
        async with websockets.serve(echo, "127.0.0.1", 0, process_request=refuse) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await asyncio.get_running_loop().run_in_executor(None, native.Native, url)

    with pytest.raises(native.Refused) as refused:
        asyncio.run(serve())
    assert refused.value.status == 401


def test_token_carries_the_claims_that_were_asked_for():
    claims = jwt.decode(token("alice", groups=["room:*"], iat=None), SECRET, ["HS256"])
    assert claims["sub"] == "alice"
    assert claims["groups"] == ["room:*"]
    assert "iat" not in claims
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(token("alice", ttl_s=-10), SECRET, ["HS256"])
