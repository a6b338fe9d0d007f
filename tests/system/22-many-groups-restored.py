"""A router that was killed gets back what nodes want of it, however much that is (F2)."""

import asyncio

import pytest

from faults import SYNC_S, many_groups_restored
from rig import Rig

pytestmark = pytest.mark.alone

SEED = 22
GROUPS = 50_000


def test_router_restarted_has_every_group_of_its_node_again(tmp_path):
    limits = {"limits": {"groups_per_connection": 1100}}
    with Rig(tmp_path, routers=1, nodes=1, config=limits) as rig:
        outcome = asyncio.run(many_groups_restored(rig, SEED, GROUPS))
    outcome.check(restored_s=SYNC_S)
