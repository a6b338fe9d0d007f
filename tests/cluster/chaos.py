#!/usr/bin/python3
"""Breaks a cluster in every way of the failure matrix and judges what everybody was told.

./dev chaos [--seed S] [--minutes M] [--fault NAME]...

Each fault runs at its full size, in the order of --help, again and again with growing seeds until
the minutes are over; without --minutes once. A failing fault prints its seed: --seed with that
number and --fault with that name run it alone. Faults of the network need root.
"""

import argparse
import asyncio
import contextlib
import pathlib
import signal
import sys
import tempfile
import time

import faults
import net
from rig import Rig

FULL = faults.Crowd(devices=2000, publishers=8, batch=10, pause_s=0.35)  # some 200 messages/s
FLOOD = faults.Crowd(devices=200, publishers=4, batch=60, pause_s=0)
PAIR = faults.Crowd(devices=100, publishers=4, batch=10, pause_s=0.1)
MANY = {"limits": {"groups_per_connection": 1100}}
BOTH, IN, OUT = ("input", "output"), ("input",), ("output",)

TELL_S = {"degraded_s": faults.DEGRADED_S, "healed_s": faults.HEALED_S}


def nodes_killed(folder, seed, front):
    with Rig(folder, routers=2, nodes=3, wrapper=["setsid"]) as rig:
        rig.put_in_front(front, wrapper=["setsid"])
        outcome = asyncio.run(faults.nodes_killed(rig, seed, FULL, kills=20, every_s=5))
    outcome.check(outage_p99_s=faults.OUTAGE_P99_S)
    return outcome


def routers_killed(folder, seed):
    with Rig(folder, routers=2, nodes=3, wrapper=["setsid"]) as rig:
        outcome = asyncio.run(faults.routers_killed(rig, seed, FLOOD, kills=200))
    outcome.check()
    assert outcome.figures["acked"] >= 100_000, outcome.figures
    return outcome


def groups_restored(folder, seed):
    with Rig(folder, routers=1, nodes=1, config=MANY, wrapper=["setsid"]) as rig:
        outcome = asyncio.run(faults.many_groups_restored(rig, seed, 50_000))
    outcome.check(restored_s=faults.SYNC_S)
    return outcome


def link_cut(folder, seed, ways):
    with net.Net() as network:
        with Rig(folder, routers=2, nodes=2, net=network, wrapper=["setsid"]) as rig:
            cuts = [(ways, seconds) for seconds in (5, 30, 120)]
            outcome = asyncio.run(faults.link_cut(rig, seed, PAIR, cuts))
    outcome.check(**TELL_S)
    return outcome


FAULTS = {
    "nodes-nginx": lambda folder, seed: nodes_killed(folder, seed, "nginx"),
    "nodes-haproxy": lambda folder, seed: nodes_killed(folder, seed, "haproxy"),
    "routers": routers_killed,
    "groups": groups_restored,
    "link": lambda folder, seed: link_cut(folder, seed, BOTH),
    "link-in": lambda folder, seed: link_cut(folder, seed, IN),
    "link-out": lambda folder, seed: link_cut(folder, seed, OUT),
}


def run(name, seed):
    """Runs one fault and prints its line; true when it held."""
    began = time.monotonic()
    print(f"{name:14} seed {seed:<6}", end=" ", flush=True)
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peal-chaos-")))
        try:
            outcome = FAULTS[name](folder, seed)
        except (AssertionError, RuntimeError, TimeoutError, OSError) as wrong:
            kept = folder.rename(folder.with_name(folder.name + "-kept"))
            folder.mkdir()  # for who removes it
            print(f"FAILED  {time.monotonic() - began:6.1f} s")
            print(f"    {wrong}\n    the logs are in {kept}")
            return False
    figures = " ".join(f"{key}={value}" for key, value in outcome.figures.items())
    print(f"ok      {time.monotonic() - began:6.1f} s   {figures}")
    return True


def main():
    parser = argparse.ArgumentParser(
        prog="./dev chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="faults: " + " ".join(FAULTS),
    )
    parser.add_argument("--seed", type=int, default=1, help="of the first round (default: 1)")
    parser.add_argument("--minutes", type=float, help="begin no round after so many")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="only this; repeatable")
    options = parser.parse_args()
    # As Ctrl-C: what was begun is ended in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    names = options.fault or list(FAULTS)
    end = time.monotonic() + 60 * (options.minutes or 0)
    seed, held = options.seed, True
    while True:
        for name in names:
            held &= run(name, seed)
        seed += 1
        if time.monotonic() >= end:
            return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
