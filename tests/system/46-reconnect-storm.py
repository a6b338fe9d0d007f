"""Two nodes are gone at once, and all who had them come back through a proxy (F16)."""

import asyncio

import pytest

from rig import Rig
from storm import BACK_S, TRIES_MEAN, Storm, nodes_cut_at_once

pytestmark = pytest.mark.alone

SEED = 46
STORM = Storm(devices=300, parts=1, calm=30, heard=100)


@pytest.mark.parametrize("front", ["nginx", "haproxy"])
def test_storm_is_over_soon_and_loses_nothing(tmp_path, front):
    with Rig(tmp_path, routers=2, nodes=3) as rig:
        fronts = [rig.put_in_front(front)]
        outcome = asyncio.run(nodes_cut_at_once(rig, fronts, SEED, STORM))
    assert outcome.figures["acked"] > 0
    outcome.check(back_s=BACK_S, tries_mean=TRIES_MEAN)
