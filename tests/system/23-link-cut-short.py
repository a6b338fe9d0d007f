"""Packets between a node and a router vanish for two seconds, both ways and each way (F10, F11)."""

import asyncio

import pytest

import net
from faults import HEALED_S, Crowd, link_cut
from rig import Rig

pytestmark = pytest.mark.alone

SEED = 23
CROWD = Crowd(devices=40, publishers=2, batch=10, pause_s=0.05)
CUTS = [(("input", "output"), 2), (("input",), 2), (("output",), 2)]


@pytest.mark.skipif(not net.is_possible(), reason="network namespaces need root")
def test_link_cut_for_two_seconds_loses_nothing_untold(tmp_path):
    with net.Net() as network, Rig(tmp_path, routers=2, nodes=2, net=network) as rig:
        outcome = asyncio.run(link_cut(rig, SEED, CROWD, CUTS))
    outcome.check(healed_s=HEALED_S)
