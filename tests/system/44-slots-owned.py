"""Several routers: each group has one of them, whoever is asked, and a longer list moves nothing."""

import threading
import time

from bus import Keys
from command import run
from doors import Push, Rpc
from metrics import read_metrics
from native import Native
from peal import DEADLINE_S, Peal
from routers import CONFIG, free_doors, start_routers  # noqa: F401
from tokens import token

ROOMS = [f"room:{n}" for n in range(16)]
USERS = [f"u{n}" for n in range(16)]


def publish(node, **message):
    """Again while routers are away, as a backend does; with the same id it counts once."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        answer = node.api.post("/v1/publish", message)
        if answer.status == 200:
            return answer.json
        assert answer.status in (503, 504), answer  # docs/PROTOCOL.md: try again
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)


def owned_by(cluster, groups):
    """group -> number of the router that takes it at its acknowledged door."""
    owners = {}
    for number, router in enumerate(cluster.all):
        with Rpc(router.doors["rpc"]) as rpc:
            results = rpc.call([{"group": group, "data": 0} for group in groups])["results"]
        for group, result in zip(groups, results):
            if "error" not in result:
                assert group not in owners, f"{group} has two owners"
                owners[group] = number
    return owners


def test_publisher_at_the_wrong_router_is_told_the_owner(start_routers):
    cluster = start_routers(2, 1)
    publish(cluster.nodes[0], group="room:0", data=0)
    asked = [f"room:{n}" for n in range(32)]
    seen = [0, 0]
    for number, router in enumerate(cluster.all):
        with Rpc(router.doors["rpc"]) as rpc:
            for result in rpc.call([{"group": g, "data": 1} for g in asked])["results"]:
                if "error" not in result:
                    seen[number] += 1
                    continue
                assert result["error"]["code"] == "no_router"
                assert result["error"]["owner"] == cluster.doors[1 - number]["rpc"]
    assert sum(seen) == len(asked) and min(seen) > 0


def test_push_at_any_router_arrives_once(start_routers):
    cluster = start_routers(2, 1)
    with Native(cluster.nodes[0].url, token("ann"), groups=ROOMS) as ann:
        ann.settled()
        for router in cluster.all:
            with Push(router.doors["pull"]) as push:
                push.send([{"group": room, "data": room} for room in ROOMS])
        got = [(m["group"], m["offset"]) for m in ann.messages(2 * len(ROOMS))]
        assert sorted(got) == sorted((room, n) for room in ROOMS for n in (1, 2))
        assert ann.settled() == []
    forwarded = [read_metrics(r)["peal_publishes_forwarded_total"] for r in cluster.all]
    assert sum(forwarded) == len(ROOMS) and min(forwarded) > 0


def test_new_cluster_serves_when_all_of_it_has_been_there_once(start_routers):
    cluster = start_routers(0, 0)
    cluster.doors = [free_doors(), free_doors()]
    first = cluster.start_router()
    first.wait_for("slots.waiting")
    with Rpc(first.doors["rpc"]) as rpc:
        (result,) = rpc.call([{"group": "room:0", "data": 0}])["results"]
        assert result["error"]["code"] == "no_router"
        assert "owner" not in result["error"]
    second = cluster.start_router()
    node = cluster.start_node()
    for room in ROOMS:
        publish(node, group=room, data=1)
    # From now on each of them knows by itself.
    second.kill()
    first.stop()
    first.start()
    with Rpc(first.doors["rpc"]) as rpc:
        results = rpc.call([{"group": room, "data": 2} for room in ROOMS])["results"]
        assert any("error" not in result for result in results)
    second.start()
    assert len(owned_by(cluster, ROOMS)) == len(ROOMS)


def test_data_of_another_router_are_refused(start_routers, tmp_path):
    cluster = start_routers(2, 1)
    publish(cluster.nodes[0], group="room:0", data=0)
    cluster.all[0].stop()
    wrong = Peal(
        tmp_path / "wrong",
        {**cluster.all[0].config, "cluster": cluster.cluster(1), "doors": {}},
        verb="router",
    )
    wrong.config["doors"] = {k: "tcp://127.0.0.1:*" for k in ("pull", "xpub", "rpc")}
    wrong.config["api"] = {"listen": "127.0.0.1:0"}
    wrong.launch()
    assert wrong.exit_code() == 78
    assert "data are those of router 0" in wrong.log.text()


class Publisher(threading.Thread):
    """Publishes to every inbox and log in turn, one after the other, each until it is taken."""

    def __init__(self, node, targets):
        super().__init__(daemon=True)
        self.node, self.targets = node, targets
        self.taken = {self.key(t): [] for t in targets}
        self.slowest_s = 0
        self.error = None
        self._over = threading.Event()

    @staticmethod
    def key(target):
        return target.get("group") or f"user:{target['user']}"

    def run(self):
        number = 0
        try:
            while not self._over.is_set():
                for target in self.targets:
                    begin = time.monotonic()
                    number += 1
                    publish(self.node, **target, data=number, message_id=f"m{number}")
                    self.taken[self.key(target)].append(number)
                    self.slowest_s = max(self.slowest_s, time.monotonic() - begin)
        except Exception as error:  # shown by end()
            self.error = error

    def end(self):
        self._over.set()
        self.join(DEADLINE_S)
        assert self.error is None, self.error
        return self.taken


def read_all(client, taken):
    """(group -> data) until everything that was taken is there."""
    got = {key: [] for key in taken}
    while any(len(got[key]) < len(taken[key]) for key in taken):
        message = client.next("message")
        got[message["group"]].append(message["data"])
    return got


def test_longer_list_taken_up_one_by_one_is_no_outage_and_moves_nothing(start_routers):
    cluster = start_routers(2, 2)
    reader_node, writer_node = cluster.nodes
    groups = [f"log:{n}" for n in range(12)]
    ann = Native(reader_node.url, token("ann"), groups=groups)
    targets = [{"group": g} for g in groups] + [{"user": "ann"}]
    for target in targets:
        publish(writer_node, **target, data=0)
    before = owned_by(cluster, groups)
    assert set(before.values()) == {0, 1}
    received = read_all(ann, {**{g: [0, 0] for g in groups}, "user:ann": [0]})
    assert set(received) == {*groups, "user:ann"}

    publisher = Publisher(writer_node, targets)
    publisher.start()
    cluster.doors.append(free_doors())
    for number in (0, 1):
        cluster.restart(number)
    added = cluster.start_router()
    added.wait_for("slots.learned")
    # Nodes come last: only then somebody knows of the third.
    cluster.start_node()
    taken = publisher.end()
    got = read_all(ann, taken)
    assert got == taken
    assert [f for f in ann.settled() if f["type"] in ("message", "gap", "skip")] == []
    ann.close()
    cluster.restart_node(0)
    cluster.restart_node(1)
    for node in cluster.nodes:
        for target in targets:
            publish(node, **target, data="after")
    assert owned_by(cluster, groups) == before
    for router in cluster.all:
        assert read_metrics(router)["peal_slots_contradicted"] == 0


def test_routers_with_keys_trust_each_other_and_an_operator_with_one(start_peal, tmp_path):
    keys = Keys(tmp_path)
    names = ("router0", "router1", "node")
    keys.make(*names)
    keys.allow(**{name: "node" for name in names})
    doors = [{**free_doors(), "key": keys.public[f"router{n}"]} for n in range(2)]

    def config(name, number=0):
        bus = {"key_file": str(keys.file(name)), "peers_file": str(tmp_path / "peers")}
        if name == "node":
            del bus["peers_file"]
        own = {k: v for k, v in doors[number].items() if k != "key"}
        cluster = {"self": str(number), "routers": doors}
        return {**CONFIG, "bus": bus, "cluster": cluster, "doors": own}

    routers = [start_peal(config(f"router{n}", n), verb="router") for n in range(2)]
    for router in routers:
        router.wait_for("slots.written", mine=512)
    node = start_peal(config("node"), verb="node")
    with Native(node.url, token("ann"), groups=ROOMS) as ann:
        for room in ROOMS:
            publish(node, group=room, data=1)
        moved = run("slots", "move", "-c", node.directory / "peal.yaml", "--slots", "0-9", "--to", "1")
        assert moved.returncode == 0, moved.stderr
        for room in ROOMS:
            publish(node, group=room, data=2)
        got = [(m["group"], m["data"]) for m in ann.messages(2 * len(ROOMS))]
        assert sorted(got) == sorted((room, data) for room in ROOMS for data in (1, 2))
    routers[1].wait_for("slots.written", mine=522)
