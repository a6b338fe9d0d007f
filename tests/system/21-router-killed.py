"""Routers get kill -9 within milliseconds of being up, under publishers that retry (F2)."""

import asyncio

from faults import Crowd, routers_killed
from rig import Rig

SEED = 21
CROWD = Crowd(devices=60, publishers=2, batch=20, pause_s=0.005)


def test_routers_killed_lose_nothing_that_was_acknowledged(tmp_path):
    with Rig(tmp_path, routers=2, nodes=3) as rig:
        outcome = asyncio.run(routers_killed(rig, SEED, CROWD, kills=15, long_every=5))
    assert outcome.figures["acked"] > 0
    outcome.check()
