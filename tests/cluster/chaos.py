#!/usr/bin/python3
"""Breaks a cluster in every way of the failure matrix and judges what everybody was told.

./dev chaos [--seed S] [--minutes M] [--fault NAME]...

Each fault runs at its full size on two routers and three nodes, in the order below, once; with
--minutes again and again with growing seeds, and none begins when the minutes are over. A failing
fault prints its seed: --seed with that number and --fault with that name run it alone. A NAME may
be the beginning of several: `nodes` is nodes-nginx and nodes-haproxy.
"""

import argparse
import asyncio
import contextlib
import functools
import itertools
import math
import pathlib
import resource
import signal
import sys
import tempfile
import time
import traceback

import faults
import net
import rolling
import storm
from rig import Rig

FULL = faults.Crowd(devices=2000, publishers=8, batch=10, pause_s=0.35)  # some 200 messages/s
FLOOD = faults.Crowd(devices=200, publishers=4, batch=60, pause_s=0)
PAIR = faults.Crowd(devices=150, publishers=4, batch=10, pause_s=0.1)
CALM = faults.Crowd(devices=9000, publishers=8, batch=50, pause_s=2)  # 3,000 for each node
STORM = storm.Storm(
    devices=18000, parts=2, calm=500, heard=2000, pause_s=0.05, baseline_s=10, down_s=1
)
MANY = {"limits": {"groups_per_connection": 1100}}
CUTS_S = (5, 30, 120)
BOTH, IN, OUT = ("input", "output"), ("input",), ("output",)
OWN = ["setsid"]  # Ctrl-C reaches this process, which ends all others in order
FILES = 19_900  # of a process that holds half of a storm


@contextlib.contextmanager
def cluster(folder, front=None, fronts=1, wrapper=OWN, **options):
    """Two routers and three nodes, behind proxies of that kind, with wrapper in front of those."""
    with Rig(folder, routers=2, nodes=3, wrapper=OWN, **options) as rig:
        made = [rig.put_in_front(front, wrapper=wrapper) for _ in range(fronts if front else 0)]
        yield rig, made


def nodes_killed(folder, seed, front):
    with cluster(folder, front) as (rig, _):
        outcome = asyncio.run(faults.nodes_killed(rig, seed, FULL, kills=20, every_s=5))
    outcome.check(outage_p99_s=faults.OUTAGE_P99_S)
    return outcome


def routers_killed(folder, seed, front):
    with cluster(folder, front) as (rig, _):
        outcome = asyncio.run(faults.routers_killed(rig, seed, FLOOD, kills=200))
    outcome.check()
    assert outcome.figures["acked"] >= 100_000, outcome.figures
    return outcome


def groups_restored(folder, seed):
    with cluster(folder, config=MANY) as (rig, _):
        outcome = asyncio.run(faults.many_groups_restored(rig, seed, 50_000))
    outcome.check(restored_s=faults.SYNC_S, told_s=faults.SYNC_S)
    return outcome


def link_cut(folder, seed, front, ways):
    with net.Net() as network, cluster(folder, front, net=network) as (rig, _):
        cuts = [(ways, seconds) for seconds in CUTS_S]
        outcome = asyncio.run(faults.link_cut(rig, seed, PAIR, cuts))
    outcome.check(degraded_s=faults.DEGRADED_S, healed_s=faults.HEALED_S)
    return outcome


def nodes_cut_at_once(folder, seed, front):
    # The proxies stand for other machines, as the devices do.
    nice = [*OWN, "nice", "-n", str(STORM.nice)]
    with cluster(folder, front, fronts=STORM.parts, wrapper=nice) as (rig, fronts):
        outcome = asyncio.run(storm.nodes_cut_at_once(rig, fronts, seed, STORM))
    figures = outcome.figures
    bound = storm.CALM_P99_TIMES * figures["calm_p99_before_ms"]
    outcome.check(back_s=storm.BACK_S, tries_mean=storm.TRIES_MEAN, calm_p99_storm_ms=bound)
    return outcome


def nodes_restarted(folder, seed, front):
    # The defaults of a node, which wait for 5 s and 20 s.
    with cluster(folder, front, config={"drain": {}}) as (rig, _):
        outcome = asyncio.run(rolling.nodes_restarted(rig, seed, CALM, spread_s=20))
    times = rolling.RATE_TIMES
    most = {"planned_times": times, "back_times": times, "refused": 0, "unanswered": 0}
    outcome.check(exit_s=rolling.EXIT_S, **most)
    return outcome


# name: (what it does with folder and seed, what it needs)
FAULTS = {"groups": (groups_restored, None)}
for kind in ("nginx", "haproxy"):
    behind = {
        "nodes": (nodes_killed, {}, None),
        "routers": (routers_killed, {}, None),
        "cut": (link_cut, {"ways": BOTH}, "root"),
        "cut-in": (link_cut, {"ways": IN}, "root"),
        "cut-out": (link_cut, {"ways": OUT}, "root"),
        "storm": (nodes_cut_at_once, {}, "files"),
        "rolling": (nodes_restarted, {}, "files"),
    }
    for name, (function, more, need) in behind.items():
        FAULTS[f"{name}-{kind}"] = (functools.partial(function, front=kind, **more), need)


def missing(need):
    """What this machine does not give, in words; None when it is there."""
    if need == "root" and not net.is_possible():
        return "network namespaces need root"
    if need == "files" and resource.getrlimit(resource.RLIMIT_NOFILE)[1] < FILES:
        return f"needs {FILES} descriptors in one process: ulimit -n"
    return None


def run(name, seed):
    """Runs one fault and prints its line; true when it held."""
    began = time.monotonic()
    fault, need = FAULTS[name]
    print(f"{name:16} seed {seed:<6}", end=" ", flush=True)
    if (lacking := missing(need)) is not None:
        print(f"NOT RUN {0:6.1f} s   {lacking}")
        return False
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peal-chaos-")))
        try:
            outcome = fault(folder, seed)
        except KeyboardInterrupt:
            print("interrupted")
            raise
        except Exception as wrong:  # whatever it is, the next fault may hold
            kept = folder.rename(folder.with_name(folder.name + "-kept"))
            folder.mkdir()  # for who removes it
            (kept / "wrong.txt").write_text(traceback.format_exc())
            print(f"FAILED  {time.monotonic() - began:6.1f} s")
            print(f"    {str(wrong) or type(wrong).__name__}\n    the logs are in {kept}", flush=True)
            return False
    figures = " ".join(f"{key}={value}" for key, value in outcome.figures.items())
    print(f"ok      {time.monotonic() - began:6.1f} s   {figures}", flush=True)
    return True


def names_of(text):
    found = [name for name in FAULTS if name == text or name.startswith(f"{text}-")]
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is none of " + " ".join(FAULTS))
    return found


def minutes_of(text):
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return minutes


def seed_of(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0")
    return int(text)


def read_arguments():
    parser = argparse.ArgumentParser(
        prog="./dev chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="faults: " + " ".join(FAULTS),
    )
    parser.add_argument("--seed", type=seed_of, default=1, help="of the first round (default: 1)")
    parser.add_argument("--minutes", type=minutes_of, help="begin no fault after so many")
    parser.add_argument(
        "--fault", action="append", type=names_of, metavar="NAME", help="only this; repeatable"
    )
    parser.add_argument("--only-check", action="store_true", help=argparse.SUPPRESS)  # arguments
    return parser.parse_args()


def run_rounds(names, seed, end):
    """One round, or as many faults as begin before `end`; true when all held."""
    held = {True: 0, False: 0}
    try:
        while True:
            for name in names:
                if end is not None and time.monotonic() >= end and sum(held.values()) > 0:
                    return held[False] == 0
                held[run(name, seed)] += 1
            if end is None:
                return held[False] == 0
            seed += 1
    finally:
        print(f"{held[True]} held, {held[False]} failed", flush=True)


def main():
    options = read_arguments()
    if options.only_check:
        return 0
    # As Ctrl-C: what was begun is ended in order. A job in the background inherits SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    names = list(dict.fromkeys(itertools.chain(*(options.fault or [FAULTS]))))
    end = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    try:
        return 0 if run_rounds(names, options.seed, end) else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
