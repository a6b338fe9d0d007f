"""A router is added and gets its share of the slots while messages flow: nothing acknowledged is
lost, comes twice or in another order, whoever is killed on the way."""

import json
import threading
import time

import pytest

from command import run
from metrics import read_metrics
from native import Native
from peal import DEADLINE_S
from routers import free_doors, start_routers  # noqa: F401
from tokens import token

LOGS = [f"log:{n}" for n in range(24)]
ROOMS = [f"room:{n}" for n in range(24)]
USERS = [f"u{n}" for n in range(8)]
TARGETS = [{"group": g} for g in LOGS + ROOMS] + [{"user": u} for u in USERS]


def key_of(target):
    return target.get("group") or f"user:{target['user']}"


class Publisher(threading.Thread):
    """Publishes to its targets in turn, each message until it is taken, under one id."""

    def __init__(self, node, name, targets):
        super().__init__(daemon=True)
        self.node, self.name_, self.targets = node, name, targets
        self.taken = {key_of(t): [] for t in targets}  # (data, epoch, offset), as acknowledged
        self.refused = 0
        self.error = None
        self.rounds = 0
        self._over = threading.Event()

    def run(self):
        try:
            while not self._over.is_set():
                self.rounds += 1
                for target in self.targets:
                    self._publish(target, f"{self.name_}{self.rounds}")
        except Exception as error:  # shown by end()
            self.error = error

    def _publish(self, target, data):
        deadline = time.monotonic() + DEADLINE_S
        message = {**target, "data": data, "message_id": f"{key_of(target)}-{data}"}
        while True:
            answer = self.node.api.post("/v1/publish", message)
            if answer.status == 200:
                receipt = answer.json
                place = (data, receipt["epoch"], receipt["offset"])
                self.taken[key_of(target)].append(place)
                return
            self.refused += 1
            assert answer.status in (500, 503, 504), answer
            assert time.monotonic() < deadline, answer
            time.sleep(0.01)

    def end(self):
        self._over.set()
        self.join(DEADLINE_S)
        assert not self.is_alive()
        assert self.error is None, self.error
        return self.taken


class Reader(threading.Thread):
    """A client that reads all the time; got: key -> [(data, offset)], gaps beside it."""

    def __init__(self, node, user):
        super().__init__(daemon=True)
        self.user = user
        self.client = Native(node.url, token(user), groups=LOGS + ROOMS)
        self.got = {key: [] for key in LOGS + ROOMS + [f"user:{user}"]}
        self.gaps = []
        self._over = False

    def run(self):
        while not self._over:
            try:
                frame = self.client.next(timeout=0.2)
            except TimeoutError:
                continue
            except (OSError, ValueError):
                return
            if frame["type"] == "message":
                place = (frame["data"], frame["offset"])
                self.got[frame["group"]].append(place)
            elif frame["type"] == "gap":
                self.gaps.append(frame)

    def wait_for(self, taken):
        """Until all that was acknowledged has come."""
        deadline = time.monotonic() + DEADLINE_S
        for key, places in taken.items():
            if key not in self.got:
                continue
            wanted = {data for data, _, _ in places}
            while missing := sorted(wanted - {data for data, _ in list(self.got[key])}):
                assert time.monotonic() < deadline, (self.user, key, missing[:5], len(missing))
                time.sleep(0.05)

    def end(self):
        self._over = True
        self.join(DEADLINE_S)
        self.client.close()


def check_streams(readers, taken, whole):
    """whole: keys whose past moved with them, so that no gap and no new epoch may be seen."""
    for reader in readers:
        for key, places in reader.got.items():
            datas = [data for data, _ in places]
            assert len(datas) == len(set(datas)), f"{reader.user}: {key} has something twice"
            if key in whole:
                assert len({epoch for _, epoch, _ in taken.get(key, ())}) <= 1, key
                offsets = [offset for _, offset in places]
                assert offsets == sorted(offsets) and len(set(offsets)) == len(offsets), key
                assert not [gap for gap in reader.gaps if gap["group"] == key], reader.gaps
            # Each publisher's own messages come in its order.
            for name in "ab":
                own = [int(data[1:]) for data in datas if data[0] == name]
                assert own == sorted(own), f"{reader.user}: {key} out of order"
            if key in whole:
                acknowledged = {(data, offset) for data, _, offset in taken[key]}
                assert acknowledged <= set(places), f"{reader.user}: {key}"


def config_file(cluster, tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text(json.dumps({"cluster": cluster.cluster()}), encoding="utf-8")
    return path


def shares(cluster):
    """How many slots each router holds, as it says itself; every slot has one owner."""
    return [owned(router) for router in cluster.all]


def owned(router):
    with_last = [line for line in router.log.text().splitlines() if " slots.written " in line]
    return int(with_last[-1].split("mine=")[1].split()[0])


class Load:
    """Two publishers and two readers on two nodes."""

    def __init__(self, cluster):
        a, b = cluster.nodes[:2]
        self.readers = [Reader(a, USERS[0]), Reader(b, USERS[1])]
        self.publishers = [Publisher(a, "a", TARGETS[::2]), Publisher(b, "b", TARGETS[1::2])]
        for thread in self.readers + self.publishers:
            thread.start()

    def wait_rounds(self, count):
        aims = [p.rounds + count for p in self.publishers]
        deadline = time.monotonic() + DEADLINE_S
        while any(p.rounds < aim for p, aim in zip(self.publishers, aims)):
            assert all(p.error is None for p in self.publishers), self.publishers
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self):
        taken = {}
        for publisher in self.publishers:
            taken.update(publisher.end())
        for reader in self.readers:
            reader.wait_for(taken)
        for reader in self.readers:
            reader.end()
        return taken


@pytest.fixture
def grown(start_routers):
    """Two routers with all slots, a third without, and two nodes that know all three."""
    cluster = start_routers(2, 0)
    cluster.doors.append(free_doors())
    for number in (0, 1):
        cluster.restart(number)
    cluster.start_router().wait_for("slots.written")
    cluster.start_node()
    cluster.start_node()
    return cluster


def test_a_quarter_of_the_slots_moves_under_load_without_loss(grown, tmp_path):
    file = config_file(grown, tmp_path)
    plan = run("slots", "plan", "-c", file)
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout.splitlines()[-1] == "341 slots to move"
    load = Load(grown)
    load.wait_rounds(2)
    moved = run("slots", "move", "-c", file, "--plan")
    assert moved.returncode == 0, (moved.stdout, moved.stderr)
    load.wait_rounds(2)
    taken = load.end()
    check_streams(load.readers, taken, whole=set(taken))
    assert sum(shares(grown)) == 1024
    assert shares(grown)[2] == 341
    # Something of each kind has really moved.
    assert read_metrics(grown.all[2])["peal_store_moved_in_total"] > 0
    assert read_metrics(grown.all[2])["peal_publishes_numbered_total"] > 0
    again = run("slots", "plan", "-c", file)
    assert again.stdout.splitlines()[-1] == "0 slots to move"
    shown = run("slots", "show", "-c", file)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("generation 1") == shown.stdout.count("router 2  generation")


@pytest.mark.parametrize("victim", ["source", "target"])
def test_killed_in_the_middle_of_a_move_leaves_one_owner_and_the_move_goes_on(
    grown, tmp_path, victim
):
    file = config_file(grown, tmp_path)
    load = Load(grown)
    load.wait_rounds(1)
    results = []
    arguments = ("slots", "move", "-c", file, "--slots", "0-340", "--to", "2")
    mover = threading.Thread(target=lambda: results.append(run(*arguments)))
    mover.start()
    router = grown.all[0 if victim == "source" else 2]
    grown.all[0].wait_for("slot.given")
    router.kill()
    router.start()
    mover.join(DEADLINE_S)
    assert results, "the command hangs"
    if results[0].returncode != 0:
        assert "run the command again" in results[0].stderr or "answer" in results[0].stderr
        again = run(*arguments)
        assert again.returncode == 0, (again.stdout, again.stderr)
    load.wait_rounds(2)
    taken = load.end()
    # What is in memory only may have begun anew with the router that was killed.
    check_streams(load.readers, taken, whole={key for key in taken if not key.startswith("room:")})
    shown = run("slots", "show", "-c", file)
    assert shown.returncode == 0, (shown.stdout, shown.stderr)
    assert sum(shares(grown)) == 1024 and shares(grown)[2] == 341


def test_commands_that_make_no_sense_are_refused(tmp_path):
    file = tmp_path / "empty.yaml"
    file.write_text("{}", encoding="utf-8")
    for arguments in (
        (),
        ("fly", "-c", file),
        ("move", "-c", file),
        ("move", "-c", file, "--slots", "1-2"),
        ("move", "-c", file, "--slots", "9-2", "--to", "0"),
        ("move", "-c", file, "--slots", "0-1024", "--to", "0"),
        ("move", "-c", file, "--slots", "1", "--to", "0", "--plan"),
        ("show", "-c", file, "--plan"),
        ("show",),
    ):
        result = run("slots", *arguments)
        assert result.returncode == 64, arguments
        assert result.stderr.startswith("peal: usage: "), result.stderr
