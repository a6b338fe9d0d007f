"""tests/cluster/storm.py: very many devices lose their nodes in one moment and come back (F16).

Nodes 0 and 1 hold the devices of the storm, which come through a proxy; node 2 those that have
nothing to do with it. Both nodes get kill -9 at once and are started again. Whoever was cut off
comes back through the proxy to any of the three.
"""

import asyncio
import contextlib
import dataclasses
import random
import time

from faults import CATCH_UP_S, Outcome, check_counters, percentile
from fleet import Device
from history import Closed, Gap, History, Message, Opened
from judge import judge
from metrics import read_metrics
from part import Part
from publisher import ByHttp, Publisher, Publishers

# From the failure matrix.
BACK_S = 30
TRIES_MEAN = 3
CALM_P99_TIMES = 3

# As the demo page does it.
BACKOFF_S = (0.5, 30)


@dataclasses.dataclass
class Storm:
    devices: int = 400  # that are cut off, in all processes
    parts: int = 1  # processes of devices, each with a proxy of its own
    calm: int = 40  # devices of node 2
    room: int = 4  # devices in one
    heard: int = 400  # so many of those that are cut off are published to
    batch: int = 10
    pause_s: float = 0.2
    baseline_s: float = 1.0  # before the storm
    down_s: float = 0.5  # until the nodes are started again
    nice: int = 19  # of the processes of devices: they stand for other machines


def make_devices(name, count, url, room):
    return [
        Device(
            f"{name}{n}",
            url,
            groups=[f"room:{name}{n // room}", f"bare:{name}{n // room}"],
            backoff_s=BACKOFF_S,
        )
        for n in range(count)
    ]


def groups_of(devices):
    return list(dict.fromkeys(g for device in devices for g in [device.inbox, *device.groups]))


async def nodes_cut_at_once(rig, fronts, seed, storm):
    """fronts: proxies in front of all nodes, one for each part."""
    history, figures = History(), {"devices": storm.devices}
    source = random.Random(seed)
    cut, calm = rig.nodes[:2], rig.nodes[2]
    # With node 2 away the proxies leave all of the storm to the other two.
    await asyncio.to_thread(calm.kill)
    each = storm.devices // storm.parts
    crowds = [
        make_devices(f"part{n}-", each, fronts[n].url, storm.room) for n in range(storm.parts)
    ]
    quiet = make_devices("calm", storm.calm, calm.url, storm.room)
    async with contextlib.AsyncExitStack() as stack:
        parts = []
        for crowd in crowds:
            part = Part(crowd, source.random(), wrapper=["nice", "-n", str(storm.nice)])
            parts.append(await stack.enter_async_context(part))
        await asyncio.to_thread(calm.start)
        # The node that stays: what is measured there is the way of a message, not a retry.
        way = [calm.api_url], groups_of(quiet), storm.batch, storm.pause_s
        parts.append(await stack.enter_async_context(Part(quiet, seed, publish=("calm", *way))))
        heard = [device for crowd in crowds for device in crowd[: storm.heard // storm.parts]]
        way = ByHttp([calm.api_url]), history, groups_of(heard), storm.batch, storm.pause_s
        async with Publishers([Publisher("storm", *way)]) as running:
            # Once round: what is only done for the first message of a group is no baseline.
            await parts[-1].published_to_all()
            first = time.monotonic()
            await asyncio.sleep(storm.baseline_s)
            began = time.monotonic()
            held = [int((await counted(node))["peal_connections"]) for node in cut]
            assert sum(held) == storm.devices, held
            for node in cut:
                node.process.kill()
            at = time.monotonic()
            for node in cut:
                await asyncio.to_thread(node.kill)
            await asyncio.sleep(max(0, at + storm.down_s - time.monotonic()))
            await asyncio.gather(*(asyncio.to_thread(node.start) for node in cut))
            figures["down_s"] = round(time.monotonic() - at, 3)
            waits = [part.wait("opened_since", at, 2 * BACK_S) for part in parts[:-1]]
            await asyncio.gather(*waits)
            marks = {**await running.stop(), **await parts[-1].stop()}
            try:
                waits = [part.catch_up(marks, CATCH_UP_S) for part in parts]
                await asyncio.gather(*waits)
            except TimeoutError as late:
                figures["late"] = str(late)
        figures["pss_mib"] = sum(map(pss_mib, [*rig.routers, *rig.nodes]))
        for part in parts:
            await part.tell_all(history)
        figures.update(came_back(history, crowds, at))
        end = at + figures["back_s"]
        names = [device.name for device in quiet]
        for word, since, until in ("before", first, began), ("storm", at, end):
            took = ways_ms(history, names, since, until)
            figures[f"calm_p50_{word}_ms"] = round(percentile(took, 0.5), 1)
            figures[f"calm_p99_{word}_ms"] = round(percentile(took, 0.99), 1)
            figures[f"calm_max_{word}_ms"] = round(took[-1], 1)
        assert not any(isinstance(e, Closed) for name in names for e in history.clients[name])
    figures["acked"] = len(history.acked)
    outcome = Outcome(judge(history), figures, history)
    await check_counters(rig)
    return outcome


async def counted(node):
    return await asyncio.to_thread(read_metrics, node)


def pss_mib(server):
    with open(f"/proc/{server.pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:")) >> 10


def came_back(history, crowds, at):
    """Of those that were cut off: when the last one was back, and after how many tries."""
    back, tries = [], []
    for crowd in crowds:
        for device in crowd:
            later = [e for e in history.clients[device.name] if e.at >= at]
            opened = [e for e in later if isinstance(e, Opened)]
            # Whoever came to a node that was still to be cut off would be counted twice.
            assert len(opened) == sum(isinstance(e, Closed) for e in later) == 1, device.name
            back.append(opened[0].at - at)
            tries.append(opened[0].tries)
    return {
        "back_s": round(max(back), 3),
        "back_p50_s": round(percentile(sorted(back), 0.5), 3),
        "tries_mean": round(sum(tries) / len(tries), 3),
        "tries_max": max(tries),
        "gaps": sum(isinstance(e, Gap) for events in history.clients.values() for e in events),
    }


def ways_ms(history, names, first, last):
    """From the publisher to these devices, of all that was published in that time; sorted."""
    took = []
    for name in names:
        for event in history.clients[name]:
            if isinstance(event, Message):
                sent = history.asked_at[event.id]
                if first <= sent < last:
                    took.append(event.at - sent)
    return sorted(1000 * seconds for seconds in took)
