"""Nodes behind a proxy get kill -9, one after the other: nobody misses anything (F1)."""

import asyncio

import pytest

from faults import OUTAGE_P99_S, Crowd, nodes_killed
from rig import Rig

pytestmark = pytest.mark.alone

SEED = 20
CROWD = Crowd(devices=120, publishers=4, batch=10, pause_s=0.1)


@pytest.mark.parametrize("front", ["nginx", "haproxy"])
def test_nodes_killed_behind_a_proxy_lose_nothing(tmp_path, front):
    with Rig(tmp_path, routers=2, nodes=3) as rig:
        rig.put_in_front(front)
        outcome = asyncio.run(nodes_killed(rig, SEED, CROWD, kills=3, every_s=1.5))
    assert outcome.figures["outages"] > 0
    outcome.check(outage_p99_s=OUTAGE_P99_S)
