"""tests/cluster/rolling.py: nodes behind a proxy are restarted one by one with SIGTERM (F17)."""

import asyncio
import math
import signal
import time

from faults import check_counters, finish
from fleet import Fleet
from history import Closed, Goaway, History, Opened
from metrics import read_metrics
from movers import most_in_a_second
from publisher import ByHttp, Publishers

# From the failure matrix.
EXIT_S = 30
RATE_TIMES = 1.5
PATIENT = 4  # every so many-th device does not leave by itself


async def nodes_restarted(rig, seed, crowd, spread_s):
    """All nodes of rig in turn, which keep going for drain.settle and drain.spread."""
    history = History()
    devices = crowd.make_devices([rig.front.url])
    for device in devices[::PATIENT]:
        device.patient = True
    figures = {"restarts": 0, "left": 0, "exit_s": 0.0, "planned_times": 0.0, "back_times": 0.0}
    async with Fleet(devices, seed, connect_s=60) as fleet:
        ways = lambda n: ByHttp(rig.api_urls, n)
        publishers = crowd.make_publishers(history, ways)
        async with Publishers(publishers) as running:
            for node in rig.nodes:
                await restart(node, fleet, figures, spread_s)
            outcome = await finish(fleet, running, history, figures)
        figures["refused"] = sum(each.refused for each in publishers)
        figures["unanswered"] = sum(each.way.unanswered for each in publishers)
    await check_counters(rig)
    return outcome


async def restart(node, fleet, figures, spread_s):
    held = int((await asyncio.to_thread(read_metrics, node))["peal_connections"])
    before = {device.name: len(device.events) for device in fleet.devices}
    began = time.monotonic()
    node.signal(signal.SIGTERM)
    code = await asyncio.to_thread(node.exit_code, 2 * EXIT_S)
    assert code == 0, f"a node that was told to stop ended with {code}"
    figures["exit_s"] = max(figures["exit_s"], round(time.monotonic() - began, 3))
    await asyncio.to_thread(node.start)
    await fleet.wait(lambda device: device.open, EXIT_S, "are back")
    planned, back = [], []
    for device in fleet.devices:
        events = device.events[before[device.name] :]
        closed = [event for event in events if isinstance(event, Closed)]
        told = [event for event in events if isinstance(event, Goaway)]
        assert len(closed) == len(told) <= 1, f"{device.name} has moved more than once"
        if closed:
            assert closed[0].code in (1000, 4301), f"{device.name} was closed with {closed[0].code}"
            planned.append(told[0].planned)
            back += [event.at for event in events if isinstance(event, Opened)]
    assert len(planned) == len(back) == held, (held, len(planned), len(back))
    even = math.ceil(held / spread_s)
    for name, times in ("planned_times", planned), ("back_times", back):
        figures[name] = max(figures[name], round(most_in_a_second(times) / even, 2))
    figures["restarts"] += 1
    figures["left"] += held
