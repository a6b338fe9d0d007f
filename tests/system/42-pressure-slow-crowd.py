"""50 of 1,000 clients stop reading: they cost their queues and nothing else."""

import collections
import socket
import time

import pytest

from conservation import check_conservation
from crowd import raise_descriptors
from doors import Rpc
from metrics import read_metrics
from peal import wait_until
from pressure import ENV, memory, sanitized
from rawws import RawWebSocket

pytestmark = pytest.mark.alone

READERS, SLEEPERS = 950, 50
MESSAGES, BATCH = 20000, 20  # at most; until then the kernel's buffers must be full
SIZE = 1024
FRAME = SIZE + 4  # RFC 6455 section 5.2: a length of 126..65535 takes two bytes more
QUEUE = 256 << 10
CLOSED_SLOW = 'peal_connections_closed_total{reason="slow"}'
CONFIG = {
    "limits": {"queue": "256KiB"},
    "routes": [{"path": "/live", "dialect": "raw", "identity": "anonymous", "join": ["live"]}],
    "groups": [{"match": "live", "join": "anyone", "history": {"messages": 0}}],
}


class Readers:
    """Clients of whom only the bytes are counted; the kernel throws them away (MSG_TRUNC)."""

    def __init__(self, url, count):
        self.clients = [RawWebSocket(url, "/live") for _ in range(count)]
        self.got = collections.Counter()
        self._room = bytearray(1 << 20)
        for client in self.clients:
            assert client.status == 101
            self.got[client] = len(client._buffer)
            client.sock.setblocking(False)

    def wait(self, size):
        """Until each of them has got so many bytes, and not one more."""
        deadline = time.monotonic() + 60
        waiting = set(self.clients)
        while waiting:
            for client in list(waiting):
                try:
                    n = client.sock.recv_into(self._room, 0, socket.MSG_TRUNC)
                    assert n > 0, "the server closed who reads"
                    self.got[client] += n
                except BlockingIOError:
                    pass
                assert self.got[client] <= size
                if self.got[client] == size:
                    waiting.discard(client)
            assert time.monotonic() < deadline, f"{len(waiting)} wait"

    def close(self):
        for client in self.clients:
            client.sock.close()


@pytest.mark.timeout(180)
def test_fifty_who_stop_reading_cost_their_queues_and_nobody_else_anything(start_cluster):
    raise_descriptors(READERS + SLEEPERS)
    router, (node,) = start_cluster(1, CONFIG, env=ENV)
    readers = Readers(node.url, READERS)
    sleepers = [RawWebSocket(node.url, "/live", rcvbuf=4096, segment=536) for _ in range(SLEEPERS)]
    message = {"group": "live", "data": "x" * SIZE}
    most = 0
    with Rpc(router.doors["rpc"]) as rpc:
        rpc.publish(**message)
        readers.wait(FRAME)
        before = memory(node)
        for sent in range(1 + BATCH, MESSAGES, BATCH):
            results = rpc.call([message] * BATCH)["results"]
            assert all(result["ack"] == "routed" for result in results)
            readers.wait(sent * FRAME)
            most = max(most, memory(node))
            if read_metrics(node)[CLOSED_SLOW] == SLEEPERS:
                break
    metrics = check_conservation(router, node)[1]
    assert metrics[CLOSED_SLOW] == SLEEPERS
    assert metrics['peal_frames_dropped_total{reason="slow"}'] > 0
    # The messages in their queues are shared, so this is far from being reached.
    print(f"{sent} messages, {(most - before) >> 10} KiB more than before")
    assert most - before <= SLEEPERS * QUEUE * (2 if sanitized() else 1), f"{most - before} bytes"
    readers.close()
    for sleeper in sleepers:
        sleeper.sock.close()
    gone = lambda: read_metrics(node)["peal_connections"] == 0
    wait_until(gone, "connections stay behind")
    metrics = check_conservation(router, node)[1]
    assert metrics["peal_connections"] == 0
    assert metrics["peal_frames_queued"] == 0
