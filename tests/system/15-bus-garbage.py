"""Peers at the doors of a router that speak something else, too much, or nothing at all."""

import os
import pathlib
import re

import msgpack
import pytest
import zmq

from bus import GARBAGE, GREETING, Keys, tcp, wait_closed, wait_counted, zmq_socket
from metrics import read_metrics

DOORS = ("pull", "rpc", "xpub")
# What is freed has to leave the process, or the address sanitizer keeps 256 MiB of it.
ENV = {"ASAN_OPTIONS": ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "quarantine_size_mb=1"]))}


@pytest.fixture(params=["plain", "curve"])
def router(request, start_peal, tmp_path):
    """With keys, and without."""
    config = {}
    if request.param == "curve":
        keys = Keys(tmp_path / "keys").make("router", "shop").allow(shop="publisher")
        config = keys.router()
    started = start_peal(config, verb="router", env=ENV)
    started.curve = keys.curve("shop") if request.param == "curve" else None
    return started


def rss_kib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def check_service(router):
    with zmq_socket(router.doors["rpc"], zmq.REQ, router.curve) as door:
        door.send(msgpack.packb({"op": "publish", "req": 1, "messages": [{"user": "a", "data": 1}]}))
        (result,) = msgpack.unpackb(door.recv())["results"]
        assert result["ack"] == "stored"


def throw(router, kinds):
    """Opens a connection for each kind of garbage at each door; returns them."""
    opened = []
    for door in DOORS:
        for kind in kinds:
            connection = tcp(router.doors[door])
            try:
                connection.sendall(GARBAGE[kind])
            except ConnectionError:
                pass
            opened.append(connection)
    return opened


def test_garbage_is_closed_and_the_service_goes_on(router):
    check_service(router)
    before = read_metrics(router)
    opened = throw(router, GARBAGE)
    # Half of a greeting, and nothing at all: closed when the handshake's time is over.
    for door in DOORS:
        opened += [tcp(router.doors[door]), tcp(router.doors[door])]
        opened[-1].sendall(GREETING[:11])
    check_service(router)
    for connection in opened:
        wait_closed(connection)
        connection.close()
    check_service(router)
    metrics = wait_counted(
        router, "peal_bus_accepted_total", before["peal_bus_accepted_total"] + len(opened) + 2
    )
    accepted = "peal_publishes_accepted_total"
    assert metrics[accepted] == before[accepted] + 2
    assert metrics["peal_router_nodes"] == 0
    broken = 'peal_bus_refused_total{reason="broken"}'
    assert metrics[broken] >= before[broken] + 2 * len(DOORS)
    protocol = 'peal_bus_refused_total{reason="protocol"}'
    assert metrics[protocol] > before[protocol]


def test_much_garbage_leaves_nothing_behind(router):
    at_once = [kind for kind in GARBAGE if closes_at_once(router, kind)]
    assert len(at_once) >= 5
    rounds = 0
    sizes = []
    for _ in range(3):
        for _ in range(15):
            for connection in throw(router, at_once):
                wait_closed(connection)
                connection.close()
            rounds += 1
        sizes.append((rss_kib(router.pid), descriptors(router.pid)))
    check_service(router)
    # The first third warms up; 30 more rounds of what would be 17 MiB each.
    assert sizes[2][0] - sizes[0][0] < 8 * 1024, sizes
    assert abs(sizes[2][1] - sizes[0][1]) <= 4, sizes


def closes_at_once(router, kind):
    with tcp(router.doors["rpc"]) as connection:
        connection.settimeout(1)
        try:
            connection.sendall(GARBAGE[kind])
            wait_closed(connection)
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True


def test_huge_message_of_a_peer_with_a_key_is_cut_off(router):
    check_service(router)
    for door, kind in (("pull", zmq.PUSH), ("rpc", zmq.DEALER)):
        before = read_metrics(router)["peal_bus_handshakes_total"]
        with zmq_socket(router.doors[door], kind, router.curve) as peer:
            peer.send(b"\x81" * (20 << 20))
            # It is closed in the middle of the frame and connects again.
            wait_counted(router, "peal_bus_handshakes_total", before + 2)
    check_service(router)
