"""bench/run.py: the command behind ./dev bench."""

import argparse
import collections
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time

import load
import plot
import report
import results
import scenarios
import servers
from process import ProcessError

ROOT = pathlib.Path(__file__).resolve().parents[1]

PAIRS, PAIRS_QUICK = 7, 3
WORKERS = 1  # the floor has one thread, too
FAILURES_MAX = 2  # of one subject; after that it is left out
LEFT_OUT = "left out, it failed before"


def arguments(argv):
    parser = argparse.ArgumentParser(
        prog="./dev bench", description="Measures Peal beside the floor; see bench/README.md."
    )
    parser.add_argument("scenario", nargs="*", help="a name, the beginning of some, or all")
    parser.add_argument("--pairs", type=positive, help=f"rounds of each scenario ({PAIRS})")
    parser.add_argument("--quick", action="store_true", help=f"{PAIRS_QUICK} rounds, shorter loads")
    parser.add_argument("--workers", type=positive, default=WORKERS, help="threads of Peal (1)")
    parser.add_argument(
        "--set",
        type=assignment,
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="another value for an option, in all loads that have it: users, preload, seconds ...",
    )
    parser.add_argument("--peal", type=pathlib.Path, metavar="PATH", help="another program peal")
    parser.add_argument(
        "--versus", type=pathlib.Path, metavar="PATH", help="compare with this peal, not the floor"
    )
    parser.add_argument(
        "--programs",
        type=pathlib.Path,
        metavar="DIR",
        default=ROOT / "build/release",
        help="where peal, peal-floor, peal-load and peal-keep are (build/release)",
    )
    parser.add_argument(
        "--results",
        type=pathlib.Path,
        metavar="DIR",
        default=ROOT / "bench/results",
        help="where the figures are kept (bench/results)",
    )
    parser.add_argument(
        "--lock", type=pathlib.Path, metavar="FILE", help="hold flock(2) on it in each round"
    )
    return parser.parse_args(argv)


def positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def assignment(text):
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ValueError
    return name.replace("-", "_"), value


# ---- Rounds ---------------------------------------------------------------------------------


class Bench:
    """What stays the same in all rounds, and where each run has its own folder."""

    def __init__(self, args, folder):
        found = args.programs.resolve()
        peal = (args.peal or found / "peal").resolve()
        self.programs = {"peal": self.program_set(peal, found)}
        if args.versus:
            self.programs["versus"] = self.program_set(args.versus.resolve(), found)
        self.quick = args.quick
        self.workers = args.workers
        self.lock = args.lock
        self.sets = args.set
        self.folder = folder
        self.fills = {}  # what was stored: (its folder, figures)

    @staticmethod
    def program_set(peal, folder):
        others = (folder / f"peal-{name}" for name in ("floor", "load", "keep"))
        programs = servers.Programs(peal, *others)
        for path in dataclasses.astuple(programs):
            if not os.access(path, os.X_OK):
                raise ProcessError(f"there is no program {path}")
        return programs

    def round(self, subjects, skip, show):
        """{subject: figures} of one run of each. What fails has {"error": text}."""
        runs = {}
        with turn(self.lock):
            for subject in subjects:
                if subject.name in skip:
                    runs[subject.name] = {"error": LEFT_OUT}
                    continue
                show(subject.name)
                try:
                    runs[subject.name] = self.run(subject, runs)
                except (load.LoadError, ProcessError) as problem:
                    runs[subject.name] = {"error": without_paths(str(problem))}
        return runs

    def run(self, subject, runs):
        options = subject.load.chosen(self.quick, self.sets)
        if subject.rate_of:
            of, share = subject.rate_of
            reached = results.figure(runs[of], "per_second")
            if not reached:
                raise load.LoadError(f"there is no rate of {of} to go by")
            options = {**options, "rate": max(1, round(share * reached))}
        programs = self.programs[subject.program]
        settings = {"workers": self.workers, **subject.settings}
        more = {}
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            if subject.stored:
                more["fill"] = self.fill(subject.stored, programs, settings, folder)
            began = time.monotonic()
            with servers.start(subject.server, programs, folder, settings) as server:
                more["ready_s"] = time.monotonic() - began
                figures = load.run(programs, server, subject, options, folder)
                if subject.counters:
                    more["counters"] = load.counters(server)
        notes = [figures["note"]] if "note" in figures else []
        return {**figures, **more, "notes": notes + server.notes}

    def fill(self, stored, programs, settings, folder):
        """Brings what is to be stored to the folder of a run; it is made only once."""
        options = stored.load.chosen(self.quick, self.sets)
        key = json.dumps([options, settings, stored.killed], sort_keys=True)
        if key not in self.fills:
            place = pathlib.Path(self.folder) / f"fill-{len(self.fills)}"
            place.mkdir()
            figures = load.fill(programs, settings, stored, options, place)
            self.fills[key] = (place, figures)
        place, figures = self.fills[key]
        to = servers.data_folder(folder)
        subprocess.run(["cp", "-r", servers.data_folder(place), to], check=True)
        # The disk has nothing else to do when the run begins.
        subprocess.run(["sync", *(path for path in to.rglob("*") if path.is_file())], check=True)
        return figures


# An absolute path, without its last part.
FOLDERS = re.compile(rf"/(?:{'|'.join(map(re.escape, os.listdir('/')))})/(?:[^\s/'\"]+/)*")


def without_paths(text):
    """What is shown and kept of an error does not say where things are on this machine."""
    return FOLDERS.sub("", text)


@contextlib.contextmanager
def turn(path):
    """Nobody else who takes turns by this file measures meanwhile. None: takes no turns."""
    if path is None:
        yield
        return
    with open(path, "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def order(subjects, number):
    """The subjects as they run in round `number`: forth and back in turn.

    What runs first, or after a heavier one, has a small disadvantage; this way each has it. A
    subject that goes by the rate of another one runs behind all that do not."""
    turned = list(subjects) if number % 2 == 1 else list(reversed(subjects))
    return sorted(turned, key=lambda subject: bool(subject.rate_of))


def measure(bench, scenario, pairs):
    """All rounds of a scenario."""
    rounds, failures = [], collections.Counter()
    for number in range(1, pairs + 1):
        skip = {name for name, count in failures.items() if count >= FAILURES_MAX}
        if len(skip) == len(scenario.subjects):
            # They count as asked for, but nobody waits for a turn to do nothing.
            left = {name: {"error": LEFT_OUT} for name in skip}
            rounds += [left] * (pairs - len(rounds))
            break

        def show(subject, number=number):
            progress(f"{scenario.name}: round {number} of {pairs}, {subject}")

        runs = bench.round(order(scenario.subjects, number), skip, show)
        progress("")
        for name, figures in runs.items():
            if "error" in figures and name not in skip:
                failures[name] += 1
                print(f"{scenario.name}: {name}: {figures['error']}", file=sys.stderr)
            for note in figures.get("notes", ()):
                print(f"{scenario.name}: {name}: note: {note}", file=sys.stderr)
        rounds.append(runs)
    return rounds


def progress(text):
    """One line that the next one replaces; nothing where nobody watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


# ---- The whole ------------------------------------------------------------------------------


def describe(path):
    """Which program it was, without saying where."""
    return {
        "version": results.command_output(str(path), "version"),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:16],
    }


def record(args, bench, measured):
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "machine": results.machine(),
        "source": results.source(ROOT),
        "programs": {name: describe(p.peal) for name, p in bench.programs.items()},
        "quick": args.quick,
        "set": dict(args.set),
        "workers": args.workers,
        "scenarios": [report.kept(scenario, rounds) for scenario, rounds in measured],
    }


def raise_descriptors():
    """Servers and load inherit this; the largest crowds need more than the usual 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def bench(args):
    try:
        picked = scenarios.pick(args.scenario)
    except ValueError as problem:
        raise ProcessError(f"{problem}; ./dev bench lists them") from None
    if args.versus:
        picked = [scenarios.against(scenario) for scenario in picked]
    raise_descriptors()
    # On the disk of the tree: a folder of temporary files may be in memory, where nothing
    # that is stored costs anything.
    place = ROOT / "build/bench"
    place.mkdir(parents=True, exist_ok=True)
    measured = []
    with tempfile.TemporaryDirectory(dir=place) as folder:
        runner = Bench(args, folder)
        print(report.heading(results.machine(), results.source(ROOT), args), flush=True)
        for scenario in picked:
            pairs = args.pairs or (PAIRS_QUICK if args.quick else PAIRS)
            measured.append((scenario, measure(runner, scenario, pairs)))
            print(report.table(*measured[-1]), flush=True)
        kept = record(args, runner, measured)
    stem = results.free_stem(args.results, kept["source"]["commit"])
    for path in results.store(args.results, stem, kept, plot.svg(kept)):
        print(f"kept: {os.path.relpath(path)}")
    failed = any("error" in run for _, rounds in measured for r in rounds for run in r.values())
    return 1 if failed else 0


def main(argv):
    args = arguments(argv)
    if not args.scenario:
        print(report.listing(scenarios.SCENARIOS))
        return 0

    def leave(number, _frame):
        raise SystemExit(128 + number)

    # As Ctrl-C does: the with statements end every process on the way out.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    try:
        return bench(args)
    except ProcessError as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: interrupted, nothing is kept", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
