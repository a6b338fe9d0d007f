"""tests/cluster/faults.py: the faults of the chaos runs, each with the figures it has to reach.

A fault is a coroutine over a running Rig. It puts devices and publishers to work, breaks
something again and again as its seed says, waits until everybody has caught up, and returns an
Outcome: what the judge says of the history, and figures. Whoever runs it compares the figures
with the failure matrix; the suite runs small forms, `./dev chaos` full ones.

Sleeps set how long a fault lasts and when the next one comes. Nothing is waited for by them.
"""

import asyncio
import dataclasses
import itertools
import random
import time

from conservation import check_conservation
from fleet import Device, Fleet
from history import Closed, Degraded, Gap, History
from judge import judge, summary
from metrics import read_metrics
from publisher import ByDoor, ByHttp, Publisher, Publishers
from slots import owner

STEP_S = 0.02  # between two looks at what is waited for
CATCH_UP_S = 60  # not a promise: who is not there then is told by the judge

# From the failure matrix.
OUTAGE_P99_S = 8
SYNC_S = 3
DEGRADED_S = 6
HEALED_S = 3


@dataclasses.dataclass
class Outcome:
    found: list  # violations
    figures: dict
    history: History

    def check(self, **most):
        """Fails on a violation, or when a figure is above what it may be at most."""
        assert self.found == [], summary(self.found)
        assert "late" not in self.figures, self.figures
        for name, bound in most.items():
            found = self.figures[name]
            assert found <= bound, f"{name} is {found}, not {bound} at most: {self.figures}"


@dataclasses.dataclass
class Crowd:
    """Who is there: each device has its inbox, a room that keeps history and one that does not."""

    devices: int = 100
    room: int = 4  # devices in one
    publishers: int = 4
    batch: int = 10
    pause_s: float = 0.2

    def rooms(self):
        count = max(1, self.devices // self.room)
        return [f"{kind}:{n}" for kind in ("room", "bare") for n in range(count)]

    def inboxes(self):
        return [f"user:dev{n}" for n in range(self.devices)]

    def make_devices(self, urls):
        count = max(1, self.devices // self.room)
        return [
            Device(f"dev{n}", urls[n % len(urls)], groups=[f"room:{n % count}", f"bare:{n % count}"])
            for n in range(self.devices)
        ]

    def make_publishers(self, history, ways):
        """ways: makes the way of publisher n. Half of each batch is stored, half live."""
        groups, rooms = [], self.rooms()
        for n, inbox in enumerate(self.inboxes()):
            groups += [inbox, rooms[n % len(rooms)]] if n < len(rooms) else [inbox]
        count = self.publishers
        return [
            Publisher(f"pub{n}", ways(n), history, groups[n::count], self.batch, self.pause_s)
            for n in range(count)
        ]


def percentile(sorted_values, part):
    if not sorted_values:
        return 0.0
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * part))]


async def finish(fleet, publishers, history, figures):
    """The marks, the wait for everybody to have caught up, the verdict."""
    marks = await publishers.stop()
    began = time.monotonic()
    try:
        await fleet.catch_up(marks, CATCH_UP_S)
    except TimeoutError as late:
        figures["late"] = str(late)
    figures["caught_up_s"] = round(time.monotonic() - began, 3)
    history.clients = {device.name: list(device.events) for device in fleet.devices}
    outages = history.outages()
    figures.update(
        acked=len(history.acked),
        stored=sum(receipt.ack == "stored" for receipt in history.acked),
        duplicates=sum(receipt.duplicate for receipt in history.acked),
        frames=sum(map(len, history.clients.values())),
        gaps=sum(len(device.events_of(Gap)) for device in fleet.devices),
        outages=len(outages),
        outage_p99_s=round(percentile(outages, 0.99), 3),
        publish_max_s=round(max(each.slowest_s for each in publishers.publishers), 3),
    )
    return Outcome(judge(history), figures, history)


async def wait_for(answer, ask, seconds, what):
    """Asks, in a thread, until that is the answer; what names it in the error."""
    deadline = time.monotonic() + seconds
    while (found := await asyncio.to_thread(ask)) != answer:
        assert time.monotonic() < deadline, f"{what}: {found} after {seconds} s, not {answer}"
        await asyncio.sleep(STEP_S)


async def check_counters(rig, seconds=10):
    """What went in came out, or it is counted why not (G11). The devices have gone."""
    for node in rig.nodes:
        ask = lambda node=node: read_metrics(node)["peal_connections"]
        await wait_for(0, ask, seconds, "connections that stay behind")
    await asyncio.to_thread(check_conservation, *rig.routers, *rig.nodes)


def urls_of(rig):
    """Where devices go: to the proxy where there is one."""
    return [rig.front.url] if rig.front is not None else rig.web_urls


# ---- F1 --------------------------------------------------------------------------------------


async def nodes_killed(rig, seed, crowd, kills, every_s):
    """kill -9 of one node after the other behind rig.front; each is started again."""
    source = random.Random(seed)
    history = History()
    devices = crowd.make_devices([rig.front.url])
    async with Fleet(devices, seed) as fleet:
        ways = lambda n: ByHttp(rig.api_urls, n)
        async with Publishers(crowd.make_publishers(history, ways)) as publishers:
            for _ in range(kills):
                began = time.monotonic()
                node = source.choice(rig.nodes)
                await asyncio.to_thread(node.kill)
                await asyncio.sleep(source.uniform(0, every_s / 4))
                await asyncio.to_thread(node.start)
                await asyncio.sleep(max(0, began + every_s - time.monotonic()))
            outcome = await finish(fleet, publishers, history, {"kills": kills})
    await check_counters(rig)
    return outcome


# ---- F2 --------------------------------------------------------------------------------------


async def routers_killed(rig, seed, crowd, kills, long_every=10):
    """kill -9 of routers 20 to 150 ms after they are up, under publishers at their doors.

    Every long_every-th life lasts until the nodes have linked, so that they sync in between."""
    source = random.Random(seed)
    history = History()
    devices = crowd.make_devices(urls_of(rig))
    count = len(rig.routers)
    groups = crowd.inboxes() + crowd.rooms()
    publishers = []
    for number, doors in enumerate(rig.doors):
        mine = [group for group in groups if owner(group, count) == number]
        for n in range(crowd.publishers):
            way, part = ByDoor(doors["rpc"]), mine[n :: crowd.publishers]
            name = f"pub{number}-{n}"
            publishers.append(Publisher(name, way, history, part, crowd.batch, crowd.pause_s))
    async with Fleet(devices, seed) as fleet:
        async with Publishers(publishers) as running:
            for kill in range(kills):
                router = source.choice(rig.routers)
                await asyncio.sleep(source.uniform(0.020, 0.150))
                if kill % long_every == long_every - 1:
                    await linked(rig, 10)
                await asyncio.to_thread(router.kill)
                await asyncio.to_thread(router.start)
            outcome = await finish(fleet, running, history, {"kills": kills})
    await check_counters(rig)
    return outcome


async def linked(rig, seconds):
    """Waits until every node has a link to every router, as /readyz says."""
    for node in rig.nodes:
        ask = lambda node=node: node.api.get("/readyz").status
        await wait_for(200, ask, seconds, "/readyz of a node")


def names_of_each(routers, count):
    """count groups for each router, which owns them."""
    names = [[] for _ in range(routers)]
    numbers = itertools.count()
    while any(len(mine) < count for mine in names):
        name = f"bulk:{next(numbers)}"
        mine = names[owner(name, routers)]
        if len(mine) < count:
            mine.append(name)
    return names


def rows_of_each(devices, routers):
    """How many rows each router's table has to have: wanted groups, summed over the nodes."""
    wanted = {(device.host, group) for device in devices for group in [*device.groups, device.inbox]}
    count = [0] * routers
    for _, group in wanted:
        count[owner(group, routers)] += 1
    return count


async def tables_are(rig, rows, seconds):
    for router, wanted in zip(rig.routers, rows, strict=True):
        await rows_are(router, wanted, seconds)


async def many_groups_restored(rig, seed, groups, per_device=1000):
    """Each router in turn is killed and gets its table back from the nodes.

    Node 0 holds so many groups of each router, the other nodes hold some of the same."""
    source = random.Random(seed)
    count = len(rig.routers)
    names = list(itertools.chain(*names_of_each(count, groups)))
    source.shuffle(names)
    parts = [(0, names[at : at + per_device]) for at in range(0, len(names), per_device)]
    for node in range(1, len(rig.nodes)):
        parts.append((node, source.sample(names, per_device)))
    urls = rig.web_urls
    devices = [Device(f"dev{n}", urls[node], groups=part) for n, (node, part) in enumerate(parts)]
    rows = rows_of_each(devices, count)
    figures = {"groups": len(names), "rows": sum(rows), "restored_s": 0.0, "told_s": 0.0}
    history = History()
    async with Fleet(devices, seed) as fleet:
        await fleet.wait(lambda d: all(g in d.positions for g in d.groups), 60, "have joined")
        await tables_are(rig, rows, 10)
        for number, router in enumerate(rig.routers):
            mine = {name: None for name in names if owner(name, count) == number}
            for device in devices:
                mine.update({g: device.positions[g][0] for g in device.groups if g in mine})
            await asyncio.to_thread(router.kill)
            await asyncio.to_thread(router.start)
            began = time.monotonic()
            await tables_are(rig, rows, 30)
            took = time.monotonic() - began
            figures["restored_s"] = max(figures["restored_s"], round(took, 3))
            # These groups are in its memory only: everybody is told that a new epoch has begun.
            told = lambda d: all(d.positions[g][0] != mine[g] for g in d.groups if g in mine)
            await fleet.wait(told, 30, "have been told")
            took = time.monotonic() - began
            figures["told_s"] = max(figures["told_s"], round(took, 3))
        # As many rows as the nodes hold, and every one of them is one of those.
        publisher = Publisher("pub", ByHttp(rig.api_urls), history, names, batch=500)
        async with Publishers([publisher]) as running:
            outcome = await finish(fleet, running, history, figures)
        assert len(history.acked) >= len(names)
    await check_counters(rig)
    return outcome


async def rows_are(router, rows, seconds):
    ask = lambda: read_metrics(router)["peal_router_rows"]
    await wait_for(rows, ask, seconds, "rows of the router's table")


# ---- F10, F11 --------------------------------------------------------------------------------


async def link_cut(rig, seed, crowd, cuts):
    """Packets between node 0 and router 0 vanish; the others go on. Needs namespaces.

    cuts: [(ways, seconds)]: which way at the node, and for how long; seconds None: until all
    devices of the node have been told. Publishers are at the other nodes."""
    history = History()
    devices = crowd.make_devices(urls_of(rig))
    figures = {"cuts": len(cuts), "degraded_s": 0.0, "healed_s": 0.0, "refused_s": 0.0}
    async with Fleet(devices, seed) as fleet:
        await linked(rig, 10)
        name = await name_of(rig.nodes[0])
        cut_off = [device for device in devices if device.node == name]
        ways_in = lambda n: ByHttp(rig.api_urls[1:])
        async with Publishers(crowd.make_publishers(history, ways_in)) as publishers:
            for ways, seconds in cuts:
                await cut_once(rig, fleet, cut_off, ways, seconds, figures, publishers)
            outcome = await finish(fleet, publishers, history, figures)
        dropped = [d.name for d in devices if d.events_of(Closed)]
        assert dropped == [], "a cut between node and router is none of the clients' business"
    await check_counters(rig)
    return outcome


async def name_of(node):
    """What it calls itself in `welcome`."""
    probe = Device("probe", node.url)
    async with Fleet([probe]):
        return probe.node


async def cut_once(rig, fleet, cut_off, ways, seconds, figures, publishers):
    began = time.monotonic()
    told = lambda device: device.degraded
    rig.node_hosts[0].cut([rig.router_hosts[0].address], ways)
    try:
        if seconds is None or seconds > DEGRADED_S:
            await fleet.wait(told, 3 * DEGRADED_S, "are degraded", cut_off)
            worst = max(last_degraded(device) for device in cut_off) - began
            figures["degraded_s"] = max(figures["degraded_s"], round(worst, 3))
            refused = await publish_is_refused(rig)
            figures["refused_s"] = max(figures["refused_s"], round(refused, 3))
        if seconds is not None:
            await asyncio.sleep(max(0, began + seconds - time.monotonic()))
    finally:
        rig.node_hosts[0].heal()
    healed = time.monotonic()
    # Healed: nobody is degraded, and everybody has what was acknowledged up to now.
    marks = {group: at for each in publishers.publishers for group, at in each.marks.items()}
    await fleet.catch_up(marks, 10 * HEALED_S)
    healthy = lambda device: not device.degraded
    await fleet.wait(healthy, 10 * HEALED_S, "are told that it is over", cut_off)
    figures["healed_s"] = max(figures["healed_s"], round(time.monotonic() - healed, 3))


def last_degraded(device):
    return next(event.at for event in reversed(device.events) if isinstance(event, Degraded))


async def publish_is_refused(rig):
    """At the node that is cut off, to a group of the router it cannot reach; seconds it took."""
    group = next(g for g in (f"room:cut{n}" for n in range(1000)) if owner(g, len(rig.routers)) == 0)
    began = time.monotonic()
    body = {"group": group, "data": "nobody gets this"}
    answer = await asyncio.to_thread(rig.nodes[0].api.post, "/v1/publish", body)
    assert (answer.status, answer.json["error"]["code"]) == (503, "no_router"), answer
    return time.monotonic() - began
