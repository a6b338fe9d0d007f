"""Everything that may not become a connection, and what it costs those that may."""

import re
import socket

import pytest

from crowd import raise_descriptors
from peal import Peal
from rawws import RawWebSocket
from tokens import token
from web import read_to_end

ORIGINS = ["https://shop.example.com", "http://shop.example.com:8000", "http://[::1]:3000"]
CONFIG = {
    "routes": [
        {"path": "/echo", "dialect": "raw", "identity": "anonymous", "inbound": "echo"},
        {
            "path": "/listed",
            "dialect": "raw",
            "identity": "anonymous",
            "inbound": "echo",
            "origins": ORIGINS,
        },
        {
            "path": "/none",
            "dialect": "raw",
            "identity": "anonymous",
            "inbound": "echo",
            "origins": [],
        },
        {"path": "/room/{name}/", "dialect": "raw", "identity": "url", "inbound": "echo"},
    ],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Peal(tmp_path_factory.mktemp("peal"), CONFIG) as server:
        yield server


def request(server, path="/echo", drop=(), method="GET", version="1.1", **headers):
    """The bytes of an upgrade request with some headers left out or changed."""
    fields = {
        "Host": server.web.address,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = [f"{method} {path} HTTP/{version}"]
    lines += [f"{name}: {value}" for name, value in fields.items() if name not in drop]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def status(answer):
    """Of raw bytes; None when the connection ended without an answer."""
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    return int(found[1]) if found else None


def alive(server):
    with RawWebSocket(server.url, "/echo") as ws:
        ws.send_text("alive")
        return ws.recv_message() == "alive"


# Paths


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/echo/", "/ECHO", "/echo/more", "//echo", "/room/a", "/room//", "/v1"]
    + ["/room/a%2Fb/"]  # decoded, these are two segments
)
def test_unknown_path_is_404(server, path):
    with RawWebSocket(server.url, path) as ws:
        assert ws.status == 404
        assert b'"not_found"' in ws.read_body()


@pytest.mark.parametrize("path", ["/echo?a=b", "/%65cho", "/room/a%20b/", "/room/%E4%B8%AD/?x"])
def test_path_is_decoded_once_and_the_query_is_no_part_of_it(server, path):
    with RawWebSocket(server.url, path) as ws:
        assert ws.status == 101


@pytest.mark.parametrize("path", ["/room/%00/", "/room/%zz/", "/room/%ff/", "/room/%0a/"])
def test_path_with_bad_escapes_is_refused(server, path):
    with RawWebSocket(server.url, path) as ws:
        assert ws.status in (400, 404)


# Requests that are no upgrade to WebSocket 13


@pytest.mark.parametrize("version", ["8", "7", "0", "14", "13, 8", "013", "abc"])
def test_other_versions_are_told_13(server, version):
    with RawWebSocket(
        server.url, head=request(server, Sec_WebSocket_Version=version)
    ) as ws:
        assert ws.status == 426
        assert ws.headers["sec-websocket-version"] == "13"


BOGUS = {
    "h2c": {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMA"},
    "unknown": {"Upgrade": "bogus"},
    "several": {"Upgrade": "websocket, h2c"},
    "h2c first": {"Upgrade": "h2c, websocket"},
    "empty": {"Upgrade": ""},
    "tls": {"Upgrade": "TLS/1.0"},
    "websocket2": {"Upgrade": "websocket2"},
    "no connection": {"Connection": "keep-alive"},
    "no key": {"Sec-WebSocket-Key": ""},
    "short key": {"Sec-WebSocket-Key": "c2hvcnQ="},
    "key of no base64": {"Sec-WebSocket-Key": "!" * 24},
    "with a body": {"Content-Length": "5"},
    "two keys": {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: x"},
    "two hosts": {"Host": "a\r\nHost: b"},
    "folded": {"X-Long": "a\r\n b"},
    "bare LF": {"X-Line": "a\nX: b"},
    "bare CR": {"X-Line": "a\rX: b"},
    "NUL": {"X-Line": "a\0b"},
    "blank before colon": {"Host ": "a"},
    "chunked": {"Transfer-Encoding": "chunked"},
}


@pytest.mark.parametrize("name", BOGUS)
def test_bogus_upgrade_is_refused(server, name):
    assert status(server.web.exchange(request(server, **BOGUS[name]))) == 400
    assert alive(server)


@pytest.mark.parametrize(
    "raw",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n",
        b"GET /echo HTTP/3.0\r\n\r\n",
        b"GET http://elsewhere/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"get\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_what_is_no_http_1_request_is_refused(server, raw):
    assert status(server.web.exchange(raw)) in (400, None)
    assert alive(server)


@pytest.mark.parametrize("method, version", [("POST", "1.1"), ("HEAD", "1.1"), ("GET", "1.0")])
def test_upgrade_is_a_get_of_http_1_1(server, method, version):
    raw = request(server, method=method, version=version)
    assert status(server.web.exchange(raw)) == 400


def test_upgrade_without_host_is_refused(server):
    assert status(server.web.exchange(request(server, drop=["Host"]))) == 400


@pytest.mark.parametrize("upgrade", ["bogus", "h2c", "websocket"])
@pytest.mark.parametrize("api", [False, True])
def test_upgrade_after_a_keep_alive_request_is_never_101(server, upgrade, api):
    http = server.api if api else server.web
    first = f"GET {'/livez' if api else '/nothing'} HTTP/1.1\r\nHost: {http.address}\r\n\r\n"
    raw = first.encode() + request(server, Upgrade=upgrade)
    answer = http.exchange(raw)
    assert status(answer) == (200 if api else 404)
    assert b" 101 " not in answer
    assert alive(server)


def test_api_port_upgrades_nothing(server):
    for path in ("/echo", "/v1/ws", "/livez"):
        assert status(server.api.exchange(request(server, path))) == 400


def test_plain_get_on_a_route_is_told_to_upgrade(server):
    assert server.web.get("/echo").status == 426


# Origins


def handshake(server, path, origin):
    headers = {} if origin is None else {"Origin": origin}
    with RawWebSocket(server.url, path, headers) as ws:
        return ws.status


@pytest.mark.parametrize(
    "origin, expected",
    [
        (None, 101),  # not a browser
        ("https://shop.example.com", 101),
        ("https://shop.example.com:443", 101),  # the default port, said
        ("HTTPS://Shop.Example.COM", 101),
        ("http://shop.example.com:8000", 101),
        ("http://[::1]:3000", 101),
        ("http://shop.example.com", 403),  # another scheme
        ("https://shop.example.com:8443", 403),
        ("http://shop.example.com:80", 403),
        ("http://shop.example.com:80000", 403),
        ("https://example.com", 403),
        ("https://evil-shop.example.com", 403),
        ("https://evilshop.example.com", 403),
        ("https://shop.example.com.evil.example", 403),
        ("https://shop.example.com@evil.example", 403),
        ("https://evil.example/https://shop.example.com", 403),
        ("https://shop.example.com/", 403),
        ("https://shop.example.com.", 403),
        ("https://shop.example.com https://evil.example", 403),
        ("file://", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_origin_must_be_listed_exactly(server, origin, expected):
    assert handshake(server, "/listed", origin) == expected


def test_origin_without_a_list_is_the_host_itself_or_loopback_in_dev_mode(server):
    port = server.web.address.split(":")[1]
    assert handshake(server, "/echo", f"http://127.0.0.1:{port}") == 101
    assert handshake(server, "/echo", "http://localhost:3000") == 101
    assert handshake(server, "/echo", "https://evil.example") == 403
    assert handshake(server, "/echo", f"http://127.0.0.1.evil.example:{port}") == 403
    assert handshake(server, "/echo", "http://localhost.evil.example") == 403
    assert handshake(server, "/echo", "null") == 403


def test_empty_list_admits_no_page(server):
    assert handshake(server, "/none", None) == 101
    assert handshake(server, "/none", f"http://{server.web.address}") == 403


# Floods


def test_head_of_too_many_bytes_is_431(server):
    assert status(server.web.exchange(request(server, X_Long="x" * 20000))) == 431
    endless = b"GET /echo HTTP/1.1\r\nX: " + b"x" * 20000
    assert status(server.web.exchange(endless)) == 431
    assert status(server.web.exchange(b"G" * 20000)) in (400, 431)
    assert alive(server)


def test_head_of_too_many_lines_is_431(server):
    many = {f"X-{n}": "1" for n in range(500)}
    assert status(server.web.exchange(request(server, **many))) == 431
    few = {f"X-{n}": "1" for n in range(59)}
    with RawWebSocket(server.url, head=request(server, **few)) as ws:
        assert ws.status == 101


def test_api_port_refuses_floods_of_headers_too(server):
    http = server.api
    get = f"GET /livez HTTP/1.1\r\nHost: {http.address}\r\n"
    many = "".join(f"X-{n}: 1\r\n" for n in range(500))
    for head in (get + "X: " + "x" * 20000 + "\r\n\r\n", get + many + "\r\n", get + "X" * 20000):
        assert status(http.exchange(head.encode())) == 431
    assert http.get("/livez").status == 200


def test_head_may_arrive_byte_by_byte(server):
    raw = request(server)
    with server.web.connect() as sock:
        for at in range(len(raw)):
            sock.sendall(raw[at : at + 1])
        assert status(sock.recv(4096)) == 101


def test_api_port_cuts_slow_requests(server):
    slow = []
    for piece in (b"", b"GET /livez HT", b"POST /v1/publish HTTP/1.1\r\nHost: a\r\n"):
        slow.append(server.api.connect())
        slow[-1].sendall(piece)
    assert server.api.get("/livez").status == 200
    for sock in slow:
        read_to_end(sock)
        sock.close()


def timeouts(server):
    text = server.api.get("/metrics").body.decode()
    return int(re.search(r'refused_total\{reason="timeout"\} (\d+)', text)[1])


def test_slow_handshakes_are_cut_and_hold_nobody_up(server):
    before = timeouts(server)
    pieces = [b"", b"G", b"GET /echo HTTP/1.1\r\n", request(server)[:-2], request(server)[:-1]]
    slow = []
    for n in range(50):
        sock = server.web.connect()
        sock.sendall(pieces[n % len(pieces)])
        slow.append(sock)
    assert alive(server)
    for sock in slow:
        assert read_to_end(sock) == b""
        sock.close()
    assert timeouts(server) == before + 50


@pytest.mark.timeout(120)
def test_2000_half_open_sockets_hold_nobody_up(start_peal):
    raise_descriptors(2000)
    server = start_peal(CONFIG, args=["--set", "workers=4"])
    half = [server.web.connect() for _ in range(2000)]
    for sock in half:
        sock.sendall(b"GET /echo HTTP/1.1\r\n")
    assert alive(server)
    for sock in half:
        sock.close()
    assert alive(server)


@pytest.mark.timeout(120)
def test_half_open_sockets_of_one_address_are_limited(start_peal):
    raise_descriptors(1200)
    server = start_peal(CONFIG, args=["--set", "workers=1"])
    half = [server.web.connect() for _ in range(1100)]
    refused = half[1024:]
    for sock in refused:
        assert read_to_end(sock) == b""
    host, port = server.web.address.split(":")
    with socket.create_connection((host, int(port)), 30, ("127.0.0.2", 0)) as other:
        other.sendall(request(server))
        assert status(other.recv(4096)) == 101
    for sock in half:
        sock.close()
    assert alive(server)


# Protocols


def test_protocol_is_chosen_from_what_was_offered(server):
    with RawWebSocket(server.url, "/v1/ws", protocols=["x", "peal.v1.json"]) as ws:
        assert ws.headers["sec-websocket-protocol"] == "peal.v1.json"
    with RawWebSocket(server.url, "/v1/ws", protocols=["something"]) as ws:
        assert ws.status == 101 and "sec-websocket-protocol" not in ws.headers
    hidden = ["peal.v1.json", "peal.token." + token("alice")]
    with RawWebSocket(server.url, "/v1/ws", protocols=hidden) as ws:
        assert ws.headers["sec-websocket-protocol"] == "peal.v1.json"
