"""A disk without room: nothing is acknowledged that is not stored, and it comes back by itself."""

import errno
import os
import pathlib
import subprocess
import time

import pytest

from conservation import check_conservation
from native import Native
from peal import wait_until
from tokens import token

pytestmark = [
    pytest.mark.alone,  # it measures how long the way back takes
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount"),
]

MIB = 1 << 20
KEEP = {"messages": 8192, "bytes": "1GiB", "settled": "0s"}
GROUPS = [
    {"match": "live", "join": "anyone", "history": {"messages": 0}},
    {"match": "user:{id}", "durable": True, "keep": KEEP},
]
USERS = 20
TEXT = "x" * 4000
BACK_S = 5  # at most, from room on the disk to the first message stored


class Disk:
    """A small file system in a mount namespace of its own, which a process keeps."""

    def __init__(self, path, kind):
        path.mkdir()
        self.path = path
        if kind == "ext4":
            image = path.with_suffix(".img")
            image.write_bytes(b"")
            os.truncate(image, 16 * MIB)
            subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", str(image)], check=True)
            mount = f"mount -o loop {image} {path}"
        else:
            mount = f"mount -t tmpfs -o size=8m tmpfs {path}"
        keep = f"{mount} && echo mounted && exec sleep infinity"
        self._keeper = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", keep], stdout=subprocess.PIPE, text=True
        )
        assert self._keeper.stdout.readline() == "mounted\n"
        self._seen = pathlib.Path(f"/proc/{self._keeper.pid}/root{path}")
        self._ballast = self._seen / "ballast"
        self.wrapper = ["nsenter", "-t", str(self._keeper.pid), "-m", "--"]

    def free(self):
        stat = os.statvfs(self._seen)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave=0):
        """Takes room until no more than this is left."""
        with open(self._ballast, "ab", buffering=0) as file:
            while (more := self.free() - leave) > 0:
                try:
                    assert file.write(b"b" * min(more, 65536)) > 0
                    os.fsync(file.fileno())
                except OSError as full:
                    assert full.errno == errno.ENOSPC
                    break

    def empty(self):
        self._ballast.unlink()

    def close(self):
        self._keeper.kill()
        self._keeper.wait()
        self._keeper.stdout.close()


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, tmp_path):
    if request.param == "ext4" and not os.path.exists("/dev/loop-control"):
        pytest.skip("no loop devices")
    disk = Disk(tmp_path / "disk", request.param)
    yield disk
    disk.close()


class Writer:
    """Publishes stored messages and remembers what was said of each."""

    def __init__(self, server):
        self.server = server
        self.acked = {}  # (user, epoch, offset) -> number
        self.refused = 0
        self._number = 0

    def batch(self):
        """One message to each user; returns how many were refused, all for lack of room."""
        users = [f"u{n}" for n in range(USERS)]
        first = self._number
        self._number += USERS
        batch = [
            {"user": user, "data": {"n": first + i, "text": TEXT}} for i, user in enumerate(users)
        ]
        answer = self.server.api.post("/v1/publish", batch)
        assert answer.status in (200, 507), answer
        refused = 0
        for i, result in enumerate(answer.json["results"]):
            if "error" in result:
                assert result["error"]["code"] == "store_full"
                refused += 1
            else:
                assert result["ack"] == "stored"
                position = (users[i], result["epoch"], result["offset"])
                assert position not in self.acked
                self.acked[position] = first + i
        self.refused += refused
        return refused

    def until_refused(self, most=2000):
        """Until a whole batch is refused."""
        while self.batch() < USERS:
            assert len(self.acked) < most, "the store is never full"


def inbox(server, user):
    """{(user, epoch, offset): number} of all that is kept."""
    found, query = {}, ""
    while True:
        answer = server.api.get(f"/v1/inbox/{user}?limit=200{query}")
        assert answer.status == 200, answer
        page = answer.json
        for message in page["messages"]:
            assert message["data"]["text"] == TEXT
            found[(user, page["epoch"], message["offset"])] = message["data"]["n"]
        if "next" not in page:
            return found
        query = f"&before={page['next']}"


def check_kept(server, writer):
    """What was acknowledged is there, and nothing that was refused."""
    found = {}
    for n in range(USERS):
        found.update(inbox(server, f"u{n}"))
    assert found == writer.acked


def check_goes_on(server, ann, numbers):
    """What takes no room: live messages, lists, heads, marks that are there already."""
    for n in numbers:
        answer = server.api.post("/v1/publish", {"group": "live", "data": n})
        assert answer.status == 200 and answer.json["ack"] == "routed"
        assert ann.next("message")["data"] == n
    with Native(server.url, token("u1")) as client:
        assert client.welcome["inbox"]["unread"] > 0
    assert inbox(server, "u2")


def back_after(began, writer):
    """Seconds until a message is stored again."""
    wait_until(lambda: writer.batch() == 0, "the store stays full", timeout=30)
    return time.monotonic() - began


def test_disk_that_is_full_acknowledges_nothing_false_and_comes_back(start_peal, disk):
    disk.fill(leave=4 * MIB)
    config = {"data": str(disk.path / "data"), "groups": GROUPS}
    server = start_peal(config, wrapper=disk.wrapper)
    writer = Writer(server)
    with Native(server.url, token("ann"), groups=["live"]) as ann:
        writer.until_refused()
        assert len(writer.acked) > 100
        check_goes_on(server, ann, range(20))
        # Not a byte is left to anybody.
        disk.fill()
        for _ in range(10):
            writer.batch()
        check_goes_on(server, ann, range(20, 40))
        # A mark needs no more room than the store has kept for it.
        for n in range(3, 6):
            answer = server.api.post(f"/v1/inbox/u{n}/ack", {"upto": 1})
            assert answer.status == 200, answer
        began = time.monotonic()
        disk.empty()
        seconds = back_after(began, writer)
        print(f"back after {seconds:.2f} s")
        assert seconds <= BACK_S
    # What was acked may go at any moment.
    for position in [p for p in writer.acked if p[0] in ("u3", "u4", "u5") and p[2] == 1]:
        del writer.acked[position]
        wait_until(lambda: position not in inbox(server, position[0]), "a settled message stays")
    server.kill()
    server.start()
    check_kept(server, writer)
    check_conservation(server)


def test_map_that_is_full_acknowledges_nothing_false_and_comes_back(start_peal):
    server = start_peal({"groups": GROUPS, "store": {"max": "4MiB"}})
    writer = Writer(server)
    with Native(server.url, token("ann"), groups=["live"]) as ann:
        writer.until_refused()
        assert len(writer.acked) > 100
        check_goes_on(server, ann, range(20))
        server.kill()
        server.start()
        check_kept(server, writer)  # full as it is
    with Native(server.url, token("ann"), groups=["live"]) as ann:
        writer.until_refused()
        check_goes_on(server, ann, range(20, 40))
        # Acks make room, and that is all that does: there is no other one to come.
        for n in range(USERS // 2, USERS):
            answer = server.api.post(f"/v1/inbox/u{n}/read", {"all": True})
            assert answer.status == 200, answer
        seconds = back_after(time.monotonic(), writer)
        print(f"back after {seconds:.2f} s")
        assert seconds <= BACK_S
    check_conservation(server)
