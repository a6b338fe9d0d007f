"""Syncs that take long, or fail: stored messages wait for them or are refused, the rest goes on."""

import errno
import mmap
import os
import struct
import threading
import time

import pytest

from conservation import check_conservation
from native import Native
from peal import program, wait_until
from tokens import token

GROUPS = [
    {"match": "live", "join": "anyone", "history": {"messages": 0}},
    {"match": "user:{id}", "durable": True, "keep": {"messages": 8192, "bytes": "1GiB"}},
]


class SickDisk:
    """What the syncs of a process do; see tests/system/sick_disk.c."""

    FIELDS = ("held", "ms", "fail", "begun")

    def __init__(self, path):
        path.write_bytes(bytes(16))
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 16)
        library = program().parents[1] / "tests/libsick_disk.so"
        assert library.is_file(), f"{library} is not built"
        # The address sanitizer wants to be first; it need not be, for this.
        asan = ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0"]))
        self.env = {"LD_PRELOAD": str(library), "PEAL_SICK_DISK": str(path), "ASAN_OPTIONS": asan}

    def set(self, **fields):
        for name, number in fields.items():
            struct.pack_into("=I", self._map, 4 * self.FIELDS.index(name), number)

    @property
    def begun(self):
        return struct.unpack_from("=I", self._map, 12)[0]

    def wait_for_a_sync(self, before):
        wait_until(lambda: self.begun > before, "nothing is synced")


@pytest.fixture
def disk(tmp_path):
    disk = SickDisk(tmp_path / "sick-disk")
    yield disk
    disk.set(held=0, ms=0)  # whoever waits shall be able to end


def publish_stored(server, user, data):
    return server.api.post("/v1/publish", {"user": user, "data": data})


class Later(threading.Thread):
    """One stored message, published beside the test."""

    def __init__(self, server, user, data):
        super().__init__(daemon=True)
        self.args = server, user, data
        self.answer = None
        self.seconds = None
        self.start()

    def run(self):
        began = time.monotonic()
        self.answer = publish_stored(*self.args)
        self.seconds = time.monotonic() - began

    def wait(self):
        self.join(30)
        assert self.answer is not None, "no answer"
        return self.answer


def live_turn(server, ann, n):
    """Seconds from publishing a live message until it is there."""
    began = time.monotonic()
    answer = server.api.post("/v1/publish", {"group": "live", "data": n})
    assert answer.status == 200, answer
    assert ann.next("message")["data"] == n
    return time.monotonic() - began


def offsets(server, user):
    page = server.api.get(f"/v1/inbox/{user}?limit=200").json
    return {message["offset"]: message["data"] for message in page["messages"]}


def test_sync_that_does_not_end_holds_back_the_store_and_nothing_else(start_peal, disk):
    server = start_peal({"groups": GROUPS}, env=disk.env)
    assert publish_stored(server, "bob", "before").status == 200
    with Native(server.url, token("ann"), groups=["live"]) as ann:
        disk.set(held=1)
        before = disk.begun
        first = Later(server, "bob", "first")
        disk.wait_for_a_sync(before)
        waiting = [Later(server, f"u{n}", n) for n in range(20)]
        for n in range(100):
            live_turn(server, ann, n)
        # What waits is not told to anybody.
        assert all(later.answer is None for later in [first, *waiting])
        begun = disk.begun
        disk.set(held=0)
        for later in [first, *waiting]:
            assert later.wait().json["ack"] == "stored"
        # They went together: one commit for what had waited, or a few.
        assert disk.begun - begun <= 10
    assert offsets(server, "bob") == {1: "before", 2: "first"}
    check_conservation(server)


@pytest.mark.alone
@pytest.mark.parametrize("spike_ms", [50, 200, 1000])
def test_slow_syncs_are_paid_by_stored_messages_alone(start_peal, disk, spike_ms):
    server = start_peal({"groups": GROUPS}, env=disk.env)
    with Native(server.url, token("ann"), groups=["live"]) as ann:
        usual = sorted(live_turn(server, ann, n) for n in range(200))
        disk.set(ms=spike_ms)
        enough = threading.Event()
        acks = []

        def store():
            while not enough.is_set():
                later = Later(server, "bob", len(acks))
                assert later.wait().json["ack"] == "stored"
                acks.append(later.seconds)

        thread = threading.Thread(target=store, daemon=True)
        thread.start()
        began = time.monotonic()
        during = []
        while time.monotonic() - began < 3 * spike_ms / 1000 or len(acks) < 3:
            during.append(live_turn(server, ann, len(during)))
        enough.set()
        thread.join(30)
        disk.set(ms=0)
    during.sort()
    p99, before = during[len(during) * 99 // 100], usual[198]
    print(
        f"{spike_ms} ms: live p99 {p99 * 1000:.1f} ms, before {before * 1000:.1f} ms; "
        f"stored {min(acks) * 1000:.0f} to {max(acks) * 1000:.0f} ms"
    )
    assert min(acks) >= spike_ms / 1000  # none before its sync
    # Nobody waits for a disk who needs none. That a message takes as long as a sync of 50 ms may
    # be the machine.
    assert p99 < max(spike_ms / 2, 50) / 1000
    check_conservation(server)


def test_sync_that_fails_ends_storing_until_the_router_starts_again(start_peal, disk):
    server = start_peal({"groups": GROUPS}, env=disk.env)
    for n in range(1, 6):
        assert publish_stored(server, "bob", n).status == 200
    with Native(server.url, token("ann"), groups=["live"]) as ann:
        disk.set(fail=errno.EIO)
        before = disk.begun
        assert publish_stored(server, "bob", "lost").status in (500, 503)
        assert disk.begun > before
        # It claims to be fine again, and is not believed.
        disk.set(fail=0)
        for n in range(20):
            assert publish_stored(server, f"u{n}", "lost").status in (500, 503)
            assert server.api.post("/v1/inbox/bob/ack", {"upto": 5}).status in (500, 503)
            live_turn(server, ann, n)
        assert offsets(server, "bob") == {n: n for n in range(1, 6)}
    server.kill()
    server.start()
    kept = offsets(server, "bob")
    # The one whose sync failed may be there: nobody was told what became of it.
    assert {n: kept[n] for n in range(1, 6)} == {n: n for n in range(1, 6)}
    assert set(kept) <= set(range(1, 7))
    answer = publish_stored(server, "bob", "again")
    assert answer.status == 200 and answer.json["offset"] == len(kept) + 1
