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


@pytest.fixture
def routers(start_peal, tmp_path):
    """One without keys, one with."""
    keys = Keys(tmp_path / "keys").make("router", "shop").allow(shop="publisher")
    plain = start_peal({}, verb="router", env=ENV)
    plain.curve = None
    secure = start_peal(keys.router(), verb="router", env=ENV)
    secure.curve = keys.curve("shop")
    return plain, secure


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


def closes_at_once(router, kind):
    with tcp(router.doors["rpc"]) as connection:
        connection.settimeout(5)  # what waits for the handshake is closed after 10 s
        try:
            connection.sendall(GARBAGE[kind])
            wait_closed(connection)
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True


# All at once at both: what says too little is closed when the time for handshakes is over, 10 s.
def test_garbage_is_closed_and_the_service_goes_on(routers):
    opened = {}
    before = {}
    for router in routers:
        check_service(router)
        before[router] = read_metrics(router)
        opened[router] = throw(router, GARBAGE)
        for door in DOORS:
            opened[router] += [tcp(router.doors[door]), tcp(router.doors[door])]
            opened[router][-1].sendall(GREETING[:11])
        check_service(router)
    for router in routers:
        for connection in opened[router]:
            wait_closed(connection)
            connection.close()
        check_service(router)
        accepted = before[router]["peal_bus_accepted_total"] + len(opened[router]) + 2
        after = wait_counted(router, "peal_bus_accepted_total", accepted)
        grown = {name: value - before[router][name] for name, value in after.items()}
        assert grown["peal_publishes_accepted_total"] == 2
        assert grown["peal_publishes_refused_total{reason=\"invalid\"}"] == 0
        assert grown["peal_bus_refused_total{reason=\"broken\"}"] >= 2 * len(DOORS)
        assert grown["peal_bus_refused_total{reason=\"protocol\"}"] >= 2 * len(DOORS)
        assert after["peal_router_nodes"] == 0


def test_much_garbage_leaves_nothing_behind(routers):
    for router in routers:
        at_once = [kind for kind in GARBAGE if closes_at_once(router, kind)]
        assert len(at_once) >= 5
        before = read_metrics(router)["peal_bus_accepted_total"]
        sizes = []
        for _ in range(3):
            for _ in range(15):
                for connection in throw(router, at_once):
                    wait_closed(connection)
                    connection.close()
            sizes.append((rss_kib(router.pid), descriptors(router.pid)))
        check_service(router)
        thrown = 3 * 15 * len(DOORS) * len(at_once)
        assert read_metrics(router)["peal_bus_accepted_total"] == before + thrown + 1
        # The first third warms up; the others announce 17 MiB and more at each door, 30 times.
        assert sizes[2][0] - sizes[0][0] < 8 * 1024, sizes
        assert abs(sizes[2][1] - sizes[0][1]) <= 4, sizes


def test_huge_message_of_a_peer_with_a_key_is_cut_off(routers):
    for router in routers:
        check_service(router)
        for door, kind in (("pull", zmq.PUSH), ("rpc", zmq.DEALER)):
            before = read_metrics(router)["peal_bus_handshakes_total"]
            with zmq_socket(router.doors[door], kind, router.curve) as peer:
                peer.send(b"\x81" * (20 << 20))
                # It is closed in the middle of the frame and connects again.
                wait_counted(router, "peal_bus_handshakes_total", before + 2)
        check_service(router)
