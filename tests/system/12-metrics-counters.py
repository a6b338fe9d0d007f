"""Counters that must add up: nothing is lost without being counted."""

import pytest

from conservation import check_conservation
from doors import Push, Rpc
from metrics import total
from native import Error, Native
from rawws import RawWebSocket
from tokens import token

CONFIG = {
    "log_level": "debug",
    "routes": [{"path": "/live", "dialect": "raw", "identity": "anonymous", "join": ["live"]}],
    "groups": [
        {"match": "live", "join": "anyone", "history": {"messages": 0}},
        {"match": "user:{id}", "durable": True, "keep": {"messages": 20}},
    ],
}


def test_counters_add_up_after_every_kind_of_delivery_loss_and_refusal(start_peal):
    server = start_peal(CONFIG)
    mute = [RawWebSocket(server.url, "/live", rcvbuf=4096) for _ in range(3)]
    readers = [Native(server.url, token(f"u{n}"), groups=["live", "kept"]) for n in range(3)]
    text = "x" * 30000
    for n in range(150):
        batch = [
            {"group": "live", "text": text},
            {"group": "kept", "text": text},
            {"user": "u1", "data": n, "message_id": f"id-{n % 50}"},
        ]
        assert server.api.post("/v1/publish", batch).status == 200
        for number, reader in enumerate(readers):
            reader.messages(3 if number == 1 and n < 50 else 2)  # u1 has an inbox of 50
    with Push(server.doors["pull"]) as push:
        push.send_bytes(b"\xc1")
        push.send([{"group": "kept", "data": "last"}, {"data": 2}, {"group": "", "data": 3}])
        assert readers[0].next("message")["data"] == "last"
    with Rpc(server.doors["rpc"]) as rpc:
        rpc.call([{"group": "kept", "data": 1}, {"group": "a\n", "data": 1}])
    with pytest.raises(Error):
        readers[0].command("publish", group="elsewhere", data=1)
    for client in mute:
        client.sock.close()
    for client in readers:
        client.abort()
    ended = 0
    for _ in mute + readers:
        ended = server.wait_for("conn.ended", ended) + 1

    (metrics,) = check_conservation(server)
    assert metrics["peal_connections_opened_total"] == 6
    assert total(metrics, "peal_connections_closed_total") == 6
    assert metrics['peal_connections_closed_total{reason="slow"}'] == 3
    assert metrics["peal_frames_queued"] == 0
    assert metrics['peal_frames_dropped_total{reason="slow"}'] > 0
    assert metrics["peal_publishes_duplicate_total"] == 100
    assert metrics["peal_publishes_waiting"] == 0
    # What the store counts as present is what one can ask for.
    there = len(server.api.get("/v1/inbox/u1?limit=200").json["messages"])
    assert metrics["peal_store_stored_total"] == 50
    assert metrics["peal_store_present"] == there
