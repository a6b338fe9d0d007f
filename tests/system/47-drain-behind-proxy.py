"""Nodes behind a proxy are restarted one by one: nobody is cut off, no publish fails (F17)."""

import asyncio

import pytest

from faults import Crowd
from rig import Rig
from rolling import EXIT_S, nodes_restarted

pytestmark = pytest.mark.alone

SEED = 47
CROWD = Crowd(devices=90, publishers=2, batch=10, pause_s=0.1)
SPREAD_S = 2


@pytest.mark.parametrize("front", ["nginx", "haproxy"])
def test_rolling_restart_behind_a_proxy_loses_nothing(tmp_path, front):
    drain = {"drain": {"settle": "500ms", "spread": f"{SPREAD_S}s"}}
    with Rig(tmp_path, routers=2, nodes=2, config=drain) as rig:
        rig.put_in_front(front)
        outcome = asyncio.run(nodes_restarted(rig, SEED, CROWD, SPREAD_S))
    assert outcome.figures["left"] > 0
    outcome.check(exit_s=EXIT_S, refused=0, unanswered=0)
