"""A client that does not read costs nobody else anything, and what it gets is whole."""

import json
import re

import pytest

from conservation import check_conservation
from native import Native
from rawws import CLOSE, TEXT, Closed, RawWebSocket, closed_by
from tokens import token

SIZE = 32 * 1024
MOST = 400  # messages until the kernel's buffers and limits.queue must be full
CONFIG = {
    "log_level": "debug",
    "routes": [{"path": "/live", "dialect": "raw", "identity": "anonymous", "join": ["live"]}],
    "groups": [
        {"match": "live", "join": "anyone", "history": {"messages": 0}},
        {"match": "kept", "join": "anyone", "history": {"messages": 1000}},
    ],
}


def payload(n):
    return f"{n:08d}" + "." * (SIZE - 8)


def publish(server, group, n):
    assert server.api.post("/v1/publish", {"group": group, "text": payload(n)}).status == 200


def slow_closes(server):
    text = server.api.get("/metrics").body.decode()
    pattern = r'^peal_connections_closed_total\{reason="slow"\} (\d+)$'
    return int(re.search(pattern, text, re.MULTILINE)[1])


@pytest.fixture
def server(start_peal):
    server = start_peal(CONFIG)
    yield server
    check_conservation(server)


def fill(server):
    """Publishes until a client that does not read is closed as slow; a second one reads along.

    Returns (the client that does not read, how many messages there were)."""
    slow = RawWebSocket(server.url, "/live", rcvbuf=4096)
    with Native(server.url, token("fast"), groups=["live"]) as fast:
        seen = 0
        for n in range(MOST):
            publish(server, "live", n)
            assert fast.next("message")["data"] == payload(n)
            lines = server.log.lines
            if any("conn.closed reason=slow" in line for line in lines[seen:]):
                break
            seen = len(lines)
        server.wait_for("conn.closed", reason="slow")
        # The others go on as if nothing had happened.
        for more in range(n + 1, n + 11):
            publish(server, "live", more)
            assert fast.next("message")["data"] == payload(more)
        assert fast.settled() == []
    return slow, n + 1


def read_whole_frames(ws):
    """Reads to the end: the payloads of whole frames, and the Close frame or None.

    A frame that the end of the stream cuts off was not delivered, and counts for nothing."""
    texts = []
    try:
        while (frame := ws.recv_frame()).opcode != CLOSE:
            assert frame.fin and frame.opcode == TEXT
            texts.append(frame.payload.decode())
    except Closed:
        return texts, None
    return texts, closed_by(frame)


def test_slow_client_is_closed_and_counted_and_the_others_flow_on(server):
    assert slow_closes(server) == 0
    slow, _ = fill(server)
    slow.sock.close()
    server.wait_for("conn.ended", reason="slow")
    assert slow_closes(server) == 1


def test_slow_client_that_reads_in_time_finds_whole_frames_then_the_close(server):
    slow, count = fill(server)
    texts, close = read_whole_frames(slow)
    assert 0 < len(texts) < count
    assert texts == [payload(n) for n in range(len(texts))]
    assert (close.code, close.reason) == (4208, "slow")


def test_slow_client_that_reads_too_late_finds_whole_frames_then_the_end(server):
    slow, count = fill(server)
    server.wait_for("conn.ended", reason="slow")
    texts, close = read_whole_frames(slow)
    assert close is None
    assert len(texts) < count
    assert texts == [payload(n) for n in range(len(texts))]


def test_slow_client_in_a_group_with_history_falls_behind_and_catches_up(server):
    slow = RawWebSocket(server.url, "/v1/ws", rcvbuf=4096)
    hello = {"type": "hello", "id": 1, "token": token("slow"), "groups": ["kept"]}
    slow.send_text(json.dumps(hello))
    assert json.loads(slow.recv_message())["type"] == "welcome"
    with Native(server.url, token("fast"), groups=["kept"]) as fast:
        for n in range(300):
            publish(server, "kept", n)
        assert [m["data"] for m in fast.messages(300)] == [payload(n) for n in range(300)]

    frames = [json.loads(slow.recv_message()) for _ in range(300)]
    assert {frame["type"] for frame in frames} == {"message"}
    assert [frame["offset"] for frame in frames] == list(range(1, 301))
    assert [frame["data"] for frame in frames] == [payload(n) for n in range(300)]
    assert frames[0].get("replayed") is None and frames[-1]["replayed"] is True

    publish(server, "kept", 300)
    live = json.loads(slow.recv_message())
    assert (live["offset"], live.get("replayed")) == (301, None)
    slow.sock.close()
