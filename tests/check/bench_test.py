"""The driver of the benchmarks: its arithmetic, its table and plot, and what it leaves behind."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as xml

import plot
import pytest
import report
import results
import run as driver
import scenarios
import servers
from peal import ROOT
from scenarios import Row, Scenario, floor, keep, load, raw

CPU = "cpu_us_per_delivery"


def run(cpu, p99=100, **more):
    """What peal-load prints, as far as the driver looks at it."""
    return {CPU: cpu, "latency_us": {"p50": 50, "p99": p99, "max": 2 * p99}, "lost": 0, **more}


def rounds(*pairs):
    return [{"raw": run(a), "floor": run(b)} for a, b in pairs]


# ---- Arithmetic -----------------------------------------------------------------------------


def test_ratio_is_taken_in_each_round_and_then_the_median():
    # The quotient of the medians would be 3 / 3.
    spread = results.row_spread(Row(CPU, "raw", "floor"), rounds((2, 1), (3, 6), (9, 3)))
    assert (spread.median, spread.low, spread.high, spread.count) == (2, 0.5, 3, 3)


def test_median_of_an_even_count_is_between_the_middle_two():
    assert results.Spread.of([4, 1, 3, 2]).median == 2.5


def test_ratio_relative_to_another_divides_by_that_of_the_same_round():
    row = Row(CPU, "big", "big floor", relative_to=("small", "small floor"))
    figures = {"big": run(6), "big floor": run(2), "small": run(4), "small floor": run(1)}
    assert results.row_value(row, figures) == 0.75
    alone = Row(CPU, "big", relative_to=("small", None))
    assert results.row_value(alone, figures) == 1.5


def test_rounds_that_failed_do_not_count():
    failed = {"raw": {"error": "no"}, "floor": run(1)}
    spread = results.row_spread(Row(CPU, "raw", "floor"), [failed, *rounds((3, 2))])
    assert (spread.count, spread.median) == (1, 1.5)
    assert results.row_spread(Row(CPU, "raw", "floor"), [failed]) is None


@pytest.mark.parametrize(
    "fault", ["lost", "closed", "strange", "disorder", "duplicates", "refused", "miscounted"]
)
@pytest.mark.parametrize("subject", ["raw", "floor", "small"])
def test_round_with_a_fault_in_any_run_of_a_row_gives_it_no_figure(fault, subject):
    row = Row(CPU, "raw", "floor", relative_to=("small", None))
    good, bad = ({"raw": run(6), "floor": run(2), "small": run(1)} for _ in range(2))
    bad[subject][fault] = 1
    assert results.row_value(row, bad) is None
    spread = results.row_spread(row, [good, bad])
    assert (spread.count, spread.median) == (1, 3)


def test_round_with_a_fault_elsewhere_keeps_the_figure_of_a_row():
    figures = {"raw": run(6, closed=0), "floor": run(2), "native": run(1, lost=1)}
    assert results.row_value(Row(CPU, "raw", "floor"), figures) == 3


@pytest.mark.parametrize("below", [0, None, float("nan")])
def test_ratio_to_nothing_is_no_figure(below):
    assert results.row_value(Row(CPU, "raw", "floor"), rounds((1, below))[0]) is None


def test_messages_cost_the_same_by_whatever_counted_them():
    kept, delivered = {"cpu_us_per_message": 3}, {CPU: 5}
    assert [results.figure(r, "cpu_per_message") for r in (kept, delivered, {})] == [3, 5, None]
    assert results.figure({"per_second": 200000}, "time_per_message") == 5
    assert results.figure({"per_second": 0}, "time_per_message") is None
    started = {"ready_s": 1.5, "latency_us": {"max": 500000}}
    assert results.figure(started, "open_s") == 2


def test_figures_are_found_by_path_and_memory_is_summed_over_processes():
    figures = run(1, p99=7, pss={"router": [1, 2], "node": [3, 40]})
    figures["pss_per_connection"] = {"router": 100.5, "node": 700}
    assert results.figure(figures, "latency_us.p99") == 7
    assert results.figure(figures, "memory_per_connection") == 800.5
    assert results.figure(figures, "memory") == 42
    assert results.figure(figures, "latency_us.p98") is None
    assert results.figure({}, "memory") is None


@pytest.mark.parametrize(
    "median, expected",
    [
        (0.95, results.AIM_MET),
        (0.951, results.MET),
        (1.10, results.MET),
        (1.101, results.MISSED),
    ],
)
def test_verdict_includes_the_limit_itself(median, expected):
    row = Row(CPU, "raw", "floor", must=1.10, aim=0.95)
    assert results.verdict(row, results.Spread.of([median]), 1) == expected


def test_verdict_without_limits_or_figures():
    assert results.verdict(Row(CPU, "raw"), results.Spread.of([1]), 1) is None
    assert results.verdict(Row(CPU, "raw", must=1), None, 1) == results.NO_FIGURE


def test_verdict_of_fewer_rounds_than_asked_for_keeps_nothing_but_still_misses():
    def verdict(median, **limits):
        return results.verdict(Row(CPU, "raw", **limits), results.Spread.of([median] * 2), 3)

    assert verdict(1.0, must=1.1) == results.NO_FIGURE
    assert verdict(0.9, must=1.1, aim=0.95) == results.NO_FIGURE
    assert verdict(0.9, aim=0.95) == results.NO_FIGURE
    assert verdict(1.2, must=1.1) == results.MISSED
    assert verdict(1.2) is None


# ---- Scenarios ------------------------------------------------------------------------------


def test_rows_name_subjects_that_run_and_each_subject_runs_once():
    for scenario in scenarios.SCENARIOS:
        names = [subject.name for subject in scenario.subjects]
        assert len(set(names)) == len(names)
        for row in scenario.rows:
            used = {row.subject, row.base, *(row.relative_to or ())} - {None}
            assert used <= set(names), row.label
        for at, subject in enumerate(scenario.subjects):
            assert not subject.rate_of or subject.rate_of[0] in names[:at]


def test_pick_takes_beginnings_once_and_refuses_what_there_is_not():
    names = [s.name for s in scenarios.pick(["f1", "F1-low", "C1"])]
    assert names == ["F1-low", "F1-burst", "F1-flood", "C1"]
    assert scenarios.pick(["all"]) == list(scenarios.SCENARIOS)
    with pytest.raises(ValueError, match="F9"):
        scenarios.pick(["F1", "F9"])


def test_against_compares_two_programs_and_leaves_out_the_floor():
    (users,) = [s for s in scenarios.SCENARIOS if s.name == "U1"]
    both = scenarios.against(users)
    assert not any(subject.is_floor for subject in both.subjects)
    by_name = {subject.name: subject for subject in both.subjects}
    assert by_name["embedded"].program == "peal"
    assert by_name["embedded B"].program == "versus"
    assert by_name["embedded, half B"].rate_of == ("embedded B", 0.5)
    assert [row.base for row in both.rows if row.subject == "embedded"] == ["embedded B"]
    assert all(row.must is None and row.base == f"{row.subject} B" for row in both.rows)


def test_order_turns_each_round_and_rates_come_after_what_they_go_by():
    users = next(s for s in scenarios.SCENARIOS if s.name == "U1").subjects
    forth = [subject.name for subject in driver.order(users, 1)]
    back = [subject.name for subject in driver.order(users, 2)]
    assert forth == [subject.name for subject in users]
    assert back != forth and sorted(back) == sorted(forth)
    for names in (forth, back):
        for subject in users:
            if subject.rate_of:
                assert names.index(subject.name) > names.index(subject.rate_of[0])


def test_growth_workers_has_the_same_four_clients_in_all_rows():
    (growth,) = scenarios.pick(["growth-workers"])
    loads = [subject.load for subject in growth.subjects]
    assert [load.chosen(quick)["processes"] for load in loads for quick in (0, 1)] == [4] * 12


def test_quick_replaces_only_what_it_names():
    work = load("fanout", {"seconds": 1}, rate=20, seconds=3)
    assert work.chosen(quick=True) == {"rate": 20, "seconds": 1}
    assert work.chosen(quick=False) == {"rate": 20, "seconds": 3}


def test_set_replaces_only_what_a_load_has_and_goes_before_quick():
    work = keep({"users": 2}, users=100, seconds=60)
    assert work.chosen(True, [("users", "7"), ("window", "1")]) == {"users": "7", "seconds": 60}
    assert work.chosen(False, [("seconds", "3")]) == {"users": 100, "seconds": "3"}


def test_least_rate_is_the_longest_time():
    row = scenarios.time_of("peal", must=scenarios.at_least(0.3))
    figures = {"peal": {"per_second": 300001}}
    spread = results.Spread.of([results.row_value(row, figures)])
    assert results.verdict(row, spread, 1) == results.MET
    figures["peal"]["per_second"] = 299000
    spread = results.Spread.of([results.row_value(row, figures)])
    assert results.verdict(row, spread, 1) == results.MISSED


# ---- Table and plot -------------------------------------------------------------------------

WORK = load("fanout", {}, connections=1)
SCENARIO = Scenario(
    "X1",
    "a <small> & odd one",
    (raw(WORK), floor(WORK, "send", "floor")),
    (
        Row(CPU, "raw", "floor", must=1.10, aim=0.95),
        Row("latency_us.p99", "raw", must=50),
        Row("latency_us.p99", "floor"),
        Row("memory_per_connection", "raw", must=2000),
    ),
)


def kept(measured, programs=("peal",)):
    return {
        "machine": {"cpu": "Some <CPU> & more", "cores": 2, "kernel": "6.1", "memory_gib": 4},
        "source": {"commit": "0123456789ab", "dirty": False},
        "programs": {name: {} for name in programs},
        "scenarios": [report.kept(SCENARIO, measured)],
    }


def table_line(text, beginning):
    (line,) = [line for line in text.splitlines() if re.match(f"  {beginning}", line)]
    return line


def test_table_shows_median_spread_limits_and_verdict():
    text = report.table(SCENARIO, rounds((2, 1), (1, 1), (1.2, 1)))
    assert re.search(r"1\.20 +1\.00 +2\.00 +1\.10 +0\.95 +MISSED$", table_line(text, "raw / floor"))
    assert re.search(r"µs +100 +100 +100 +50 +- +MISSED$", table_line(text, "raw: p99"))
    assert table_line(text, "raw: memory").endswith("  NO FIGURE, 0 of 3 rounds")
    assert re.search(r"µs +100 +100 +100 +- +-$", table_line(text, "floor: p99"))


def test_table_sums_faults_and_leaves_out_columns_without_any():
    measured = rounds((1, 1), (1, 1))
    measured[0]["raw"]["lost"] = 3
    measured[1]["raw"]["lost"] = 4
    measured[1]["floor"].update({"strange": 2, "closed": 0})
    text = report.table(SCENARIO, measured)
    assert re.split(r"  +", table_line(text, " +CPU µs ").strip()) == [
        "CPU µs",
        "p50 µs",
        "p99 µs",
        "max µs",
        "lost",
        "strange",
    ]
    assert table_line(text, "raw +[0-9]").split() == ["raw", "1.00", "50.0", "100", "200", "7", "-"]


def test_table_says_how_many_rounds_are_good_when_not_all_are():
    measured = rounds((1, 1), (1, 1), (9, 1))
    measured[2]["raw"]["lost"] = 3
    text = report.table(SCENARIO, measured)
    line = table_line(text, "raw / floor")
    assert re.search(r"1\.00 +1\.00 +1\.00 +1\.10 +0\.95 +NO FIGURE, 2 of 3 rounds$", line)
    assert table_line(text, "raw: p99").endswith("  MISSED, 2 of 3 rounds")
    assert table_line(text, "floor: p99").endswith("-")
    (row, *_) = kept(measured)["scenarios"][0]["rows"]
    assert (row["verdict"], row["rounds"]) == (results.NO_FIGURE, [1, 1, None])
    drawn = xml.fromstring(plot.svg(kept(measured)))
    dots = drawn.findall("{http://www.w3.org/2000/svg}circle")
    assert [dot.get("class") for dot in dots] == ["none", "MISSED"]


def test_table_notes_the_load_where_it_was_the_limit():
    measured = rounds((1, 1), (1, 1), (1, 1))
    for round_, clients, publisher in zip(measured, (0.97, 0.2, 0.99), (0.9, 0.9, 1)):
        round_["raw"].update({"client_busy": clients, "publisher_busy": publisher})
        round_["floor"].update({"client_busy": 0.95, "publisher_busy": 0.91})
    lines = report.table(SCENARIO, measured).splitlines()
    # 90 % itself is not more than that, and one round is not the median.
    expected = "raw: clients 97 %; floor: clients 95 %, publisher 91 %"
    assert lines[-1] == f"  the load was the limit: {expected}"


def test_table_says_nothing_of_a_load_that_had_time_left_or_is_in_no_row():
    scenario = Scenario("X2", "", (raw(WORK), raw(WORK, "other")), (Row(CPU, "raw"),))
    figures = {"raw": run(1, client_busy=0.9), "other": run(1, client_busy=1)}
    assert "the load was the limit" not in report.table(scenario, [figures])
    assert "the load was the limit" not in report.table(scenario, [{"raw": {"error": "no"}}])


def test_table_shows_what_the_store_counted_where_it_was_asked():
    measured = rounds((1, 1), (1, 1), (1, 1))
    for round_, stored in zip(measured, (10, 4000, 3000)):
        round_["raw"]["counters"] = {"stored": stored, "settled": 0}
    assert "\n  store of raw: stored 3,000" in report.table(SCENARIO, measured)
    assert "store of" not in report.table(SCENARIO, rounds((1, 1)))


def test_plot_is_wellformed_and_draws_rows_with_a_ratio_or_a_must():
    drawn = xml.fromstring(plot.svg(kept(rounds((2, 1), (1, 1), (1.2, 1)))))
    space = "{http://www.w3.org/2000/svg}"
    # The ratio and the p99 with a must; neither the p99 without nor the row without figures.
    assert len(drawn.findall(f"{space}circle")) == 2
    texts = [text.text for text in drawn.findall(f"{space}text")]
    assert "raw / floor: CPU per delivery" in texts
    assert "1.20 MISSED" in texts
    assert any("Some <CPU> & more" in text for text in texts)
    width, height = float(drawn.get("width")), float(drawn.get("height"))
    for line in drawn.findall(f"{space}line"):
        assert 0 < float(line.get("x1")) < width and 0 < float(line.get("y2")) < height


def test_plot_places_a_must_between_what_keeps_and_what_misses_it():
    line = plot.Line("X1", kept(rounds((2, 1), (1, 1), (1.05, 1)))["scenarios"][0]["rows"][0])
    axis = plot.Axis([line])
    assert axis.x(line.low) < axis.x(line.median) < axis.x(line.must) < axis.x(line.high)
    assert axis.x(line.aim) < axis.x(line.low)
    assert 1 in axis.ticks()


def test_plot_of_nothing_is_none():
    assert plot.svg(kept([{"raw": {"error": "no"}, "floor": run(1)}])) is None


# ---- What is kept ---------------------------------------------------------------------------


def test_store_keeps_earlier_runs_of_the_same_day(tmp_path):
    first = results.free_stem(tmp_path, "abc")
    results.store(tmp_path, first, {"n": 1}, "<svg/>")
    second = results.free_stem(tmp_path, "abc")
    results.store(tmp_path, second, {"n": 2}, None)
    assert second == f"{first}-2"
    assert results.free_stem(tmp_path, "abc") == f"{first}-3"
    assert json.loads((tmp_path / f"{first}.json").read_text()) == {"n": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{first}-2.json",
        f"{first}.json",
        f"{first}.svg",
    ]


# ---- The whole, with programs that only pretend ---------------------------------------------

SERVER = r"""#!/usr/bin/python3
import json, os, pathlib, signal, sys
if sys.argv[1:] == ["version"]:
    print("peal pretended")
    sys.exit()
here = pathlib.Path(__file__).parent
open(here / "pids", "a").write(f"{os.getpid()}\n")
def stop(*_):
    if "DEAF" not in os.environ:
        os._exit(int(os.environ.get("CODE", "0")))
signal.signal(signal.SIGTERM, stop)
if "-c" in sys.argv:
    config = json.load(open(sys.argv[sys.argv.index("-c") + 1]))
    open(here / "configs", "a").write(json.dumps([sys.argv[1], config]) + "\n")
    where = "router" if sys.argv[1] == "router" else "http://127.0.0.1:1/"
    print("peal: ready", where)
    print("peal: api http://127.0.0.1:2/")
    if sys.argv[1] != "node":
        print("peal: doors pull=tcp://127.0.0.1:3 rpc=tcp://127.0.0.1:4 xpub=inproc://x")
else:
    print('{"port":5,"publish_port":6}')
sys.stdout.flush()
while True:
    signal.pause()
"""

LOAD = r"""#!/usr/bin/python3
import json, os, pathlib, signal, sys, time
here = pathlib.Path(__file__).parent
words = sys.argv[1:]
open(here / "loads", "a").write(json.dumps(words) + "\n")
options = dict(zip(words[1::2], words[2::2]))
if os.environ.get("HANG"):
    if os.fork() == 0:
        open(here / "pids", "a").write(f"{os.getpid()}\n")
        open(here / "hangs", "w").close()
    signal.pause()
if os.environ.get("ERROR") == options["--target"]:
    print(json.dumps({"error": f"no way from {__file__}"}))
    sys.exit(1)
print(json.dumps({
    "cpu_us_per_delivery": 3 if options["--target"] == "raw" else 2,
    "per_second": 1500 if options["--target"] == "raw" else 1000, "lost": 0,
    "published": 5, "expected": int(os.environ.get("EXPECTED", "5")),
    "latency_us": {"p50": 1, "p99": 2, "max": 3},
    "cpu_s": {options["--pid"]: 0.5},
    "pss_per_connection": {options["--pid"]: 600},
}))
"""


KEEP = r"""#!/usr/bin/python3
import json, os, pathlib, signal, sys
here = pathlib.Path(__file__).parent
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
data = None
if "--config" in options:
    data = pathlib.Path(json.load(open(options["--config"]))["data"])
    data.mkdir(exist_ok=True)
    options["found"] = sorted(path.name for path in data.iterdir())
    (data / f"by-{os.getpid()}").touch()
open(here / "keeps", "a").write(json.dumps(options) + "\n")
open(here / "pids", "a").write(f"{os.getpid()}\n")
print(json.dumps({
    "per_second": 200000 if options["--into"] == "door" else 100000, "memory_per_message": 7,
    "cpu_us_per_message": 3, "lost": 0, "latency_us": {"p50": 1, "p99": 2, "p999": 3, "max": 4},
    "anonymous": {options.get("--pid"): 5},
}), flush=True)
while options.get("--stay") == "1":
    signal.pause()
"""


@pytest.fixture
def programs(tmp_path):
    folder = tmp_path / "programs"
    folder.mkdir()
    names = {"peal": SERVER, "peal-floor": SERVER, "peal-load": LOAD, "peal-keep": KEEP}
    for name, text in names.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def bench(programs, *args, **environment):
    command = [sys.executable, str(ROOT / "bench/run.py"), *map(str, args)]
    command += ["--programs", str(programs), "--results", str(programs / "results")]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def finish(process, timeout=50):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def lines_of(programs, name):
    return [json.loads(line) for line in (programs / name).read_text().splitlines()]


def check_ended(programs):
    """Everything that was started has ended; what was killed a moment ago gets that moment."""
    pids = [int(line) for line in (programs / "pids").read_text().split()]
    assert pids
    for pid in pids:
        try:
            end = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert select.select([end], [], [], 5)[0], f"{pid} still runs"
        os.close(end)


def stored(programs):
    (path,) = (programs / "results").glob("*.json")
    return path.read_text()


def test_bench_runs_pairs_and_keeps_figures_without_paths(programs):
    code, out, err = finish(bench(programs, "F2-low", "--pairs", 2, "--workers", 3))
    assert (code, err) == (0, "")
    assert re.search(r"raw / floor send: CPU per delivery +1\.50 .* MISSED", out)
    order = [words[words.index("--target") + 1] for words in lines_of(programs, "loads")]
    assert order == ["raw", "floor", "native", "native", "floor", "raw"]
    assert {config["workers"] for _, config in lines_of(programs, "configs")} == {3}
    check_ended(programs)

    text = stored(programs)
    assert str(ROOT) not in text and str(programs) not in text
    record = json.loads(text)
    (scenario,) = record["scenarios"]
    assert scenario["rows"][0]["rounds"] == [1.5, 1.5]
    assert scenario["runs"][1]["raw"]["cpu_s"] == {"peal": 0.5}
    assert record["programs"]["peal"]["version"] == "peal pretended"
    (picture,) = (programs / "results").glob("*.svg")
    xml.parse(picture)


def test_bench_gives_each_load_its_server_and_door(programs):
    assert finish(bench(programs, "F1-low", "M1b", "--pairs", 1))[0] == 0
    loads = [dict(zip(words[1::2], words[2::2])) for words in lines_of(programs, "loads")]
    doors = [(l["--target"], l["--door"], l["--endpoint"]) for l in loads]
    configs = lines_of(programs, "configs")
    cluster = [config["cluster"] for verb, config in configs if verb == "node"]
    pulls = [one["routers"][0]["pull"] for one in cluster]
    assert doors == [
        ("raw", "push", "tcp://127.0.0.1:3"),
        ("floor", "floor", "tcp://127.0.0.1:6"),
        ("raw", "push", "tcp://127.0.0.1:3"),
        ("native", "push", "tcp://127.0.0.1:3"),
        ("raw", "http", "tcp://127.0.0.1:2"),
        ("raw", "rpc", "tcp://127.0.0.1:4"),
        ("raw", "push", pulls[0]),
        ("native", "push", pulls[1]),
    ]
    assert ["--key" in l for l in loads].index(True) == 4
    assert all(len(l["--token-secret"]) >= 32 for l in loads[6:])
    rings = [config.get("io_uring") for verb, config in configs]
    assert [at for at, ring in enumerate(rings) if ring is not None] == [1]
    assert rings[1] is False
    routers = [config for verb, config in configs if verb == "router"]
    assert [router["doors"]["pull"] for router in routers] == pulls


def test_bench_names_every_router_and_node_to_the_load(programs):
    assert finish(bench(programs, "cluster-U1", "--pairs", 1))[0] == 0
    words = lines_of(programs, "loads")[1]
    configs = lines_of(programs, "configs")
    routers = [config for verb, config in configs if verb == "router"][1:]
    doors = [router["doors"] for router in routers]
    assert [router["cluster"]["self"] for router in routers] == ["0", "1", "2", "3"]
    assert all(config["cluster"]["routers"] == doors for verb, config in configs[2:])
    endpoints = [word for at, word in enumerate(words) if words[at - 1] == "--endpoint"]
    assert endpoints == [door["pull"] for door in doors]
    assert words.count("--address") == 4
    assert words.count("--pid") == 8


def test_bench_gives_the_floor_the_rate_that_it_is_compared_at(programs):
    assert finish(bench(programs, "U1", "--pairs", 1))[0] == 0
    loads = [dict(zip(words[1::2], words[2::2])) for words in lines_of(programs, "loads")]
    rates = [(l["--target"], l["--rate"]) for l in loads if "--rate" in l]
    # The pretended load reaches 1,500 with Peal and 1,000 with the floor.
    assert rates == [("raw", "750"), ("floor", "750"), ("raw", "750")]


def test_bench_names_the_error_of_a_load_and_goes_on(programs):
    code, out, err = finish(bench(programs, "F2-low", "--pairs", 3, ERROR="raw"))
    assert code == 1
    # It is tried twice, then left out.
    assert len(re.findall(r"^F2-low: raw: no way from peal-load$", err, re.M)) == 2
    assert str(programs) not in stored(programs)
    assert re.search(r"raw / floor send: CPU per delivery .* NO FIGURE, 0 of 3 rounds$", out, re.M)
    assert re.search(r"native / floor send: CPU per delivery +1\.00 ", out)
    check_ended(programs)


def test_rounds_that_are_left_out_count_as_asked_for():
    class Failing:
        def __init__(self):
            self.tries = 0

        def round(self, subjects, skip, show):
            self.tries += 1
            return {s.name: run(1) if self.tries == 1 else {"error": "no"} for s in subjects}

    runner = Failing()
    measured = driver.measure(runner, SCENARIO, 7)
    assert runner.tries == 3
    assert "; rounds: 7\n" in report.table(SCENARIO, measured)
    assert "NO FIGURE, 1 of 7 rounds" in report.table(SCENARIO, measured)


def test_bench_refuses_figures_of_messages_that_nobody_was_to_get(programs):
    code, _, err = finish(bench(programs, "U2", "--pairs", 1, EXPECTED="4"))
    assert code == 1
    assert "U2: router + node: not every message had one receiver" in err


def test_bench_tells_when_a_server_does_not_end_well(programs):
    code, _, err = finish(bench(programs, "F2-low", "--pairs", 1, CODE="70"))
    assert code == 1
    assert "F2-low: raw: peal: ended with 70" in err


def test_bench_notes_a_server_that_does_not_stop_and_keeps_the_figures(programs, monkeypatch):
    monkeypatch.setenv("DEAF", "1")
    names = ("peal", "peal-floor", "peal-load", "peal-keep")
    found = servers.Programs(*(programs / name for name in names))
    with servers.start("dev", found, programs, {}, stop_s=0.1) as server:
        pass
    assert server.notes == ["peal did not stop within 0.1 s and was killed"]
    check_ended(programs)


def test_bench_stores_once_what_each_run_begins_with(programs):
    code, out, err = finish(bench(programs, "D5", "--pairs", 2, "--set", "preload=9"))
    assert (code, err) == (0, "")
    fill, *runs = lines_of(programs, "keeps")
    assert (fill["--into"], fill["--preload"], fill["--stay"], fill["found"]) == (
        "store",
        "9",
        "1",
        [],
    )
    # By the door of a server whose folder has what the one that was killed left.
    assert [(run["--into"], run["--count"]) for run in runs] == [("door", "1")] * 2
    configs = [config for _, config in lines_of(programs, "configs")]
    assert len({config["data"] for config in configs}) == 2
    assert re.search(r"memory of the store per message +B +7\.00 ", out)
    record = json.loads(stored(programs))
    assert record["set"] == {"preload": "9"}
    assert record["scenarios"][0]["runs"][1]["peal"]["anonymous"] == {"peal": 5}
    check_ended(programs)


def test_bench_gives_peal_keep_the_store_that_was_filled(programs, tmp_path):
    tools = tmp_path / "tools"  # all that there is, and so no redis-server
    tools.mkdir()
    for name in ("cp", "git", "setpriv", "sync"):
        (tools / name).symlink_to(shutil.which(name))
    code, _, err = finish(bench(programs, "D4", "--pairs", 1, "--quick", PATH=str(tools)))
    keeps = lines_of(programs, "keeps")
    fills = [one for one in keeps if "--preload" in one]
    alone = [one for one in keeps if one["--into"] == "store" and "--preload" not in one]
    assert [one["--stay"] for one in fills] == ["0"]
    assert [one["--acked"] for one in alone if "--acked" in one] == ["90"]
    # Both begin with what was stored, and not with what the other one added.
    assert len(alone) == 2 and len(alone[0]["found"]) == 1
    assert alone[0]["found"] == alone[1]["found"]
    assert code == 1
    assert "there is no redis-server; it is the Debian package redis-server" in err


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_bench_interrupted_ends_all_processes_and_keeps_nothing(programs, number, code):
    os.mkfifo(programs / "hangs")
    process = bench(programs, "F2-low", HANG="1")
    open(programs / "hangs", encoding="utf-8").close()  # waits for the load to open it
    process.send_signal(number)
    assert finish(process)[0] == code
    check_ended(programs)
    assert not (programs / "results").exists()


def test_bench_without_arguments_lists_all_scenarios(programs):
    done = subprocess.run([ROOT / "dev", "bench"], capture_output=True, text=True, check=True)
    for scenario in scenarios.SCENARIOS:
        assert f"  {scenario.name} " in done.stdout


def test_bench_refuses_what_it_does_not_know(programs):
    code, _, err = finish(bench(programs, "F9"))
    assert code == 1 and "there is no scenario F9" in err
    code, _, err = finish(bench(programs, "F1", "--pairs", 0))
    assert code == 2 and "--pairs" in err
