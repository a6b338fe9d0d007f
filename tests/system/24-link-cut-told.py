"""A node that cannot reach a router says so, refuses at once, and is healed soon (F10)."""

import asyncio

import pytest

import net
from faults import DEGRADED_S, HEALED_S, Crowd, link_cut
from rig import Rig

pytestmark = pytest.mark.alone

SEED = 24
CROWD = Crowd(devices=40, publishers=2, batch=10, pause_s=0.05)
# So long that the kernel would pause for more than HEALED_S between two tries to connect.
CUT = (("input", "output"), 16)


@pytest.mark.skipif(not net.is_possible(), reason="network namespaces need root")
def test_link_cut_is_told_within_its_time_and_healed(tmp_path):
    with net.Net() as network, Rig(tmp_path, routers=2, nodes=2, net=network) as rig:
        outcome = asyncio.run(link_cut(rig, SEED, CROWD, [CUT]))
    outcome.check(degraded_s=DEGRADED_S, healed_s=HEALED_S)
