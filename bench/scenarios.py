"""bench/scenarios.py: what is measured, and what the figures must and should be.

A scenario has subjects, each a server and a load, and rows, which are figures of them. In one
round every subject runs once, in the order they stand here or the other way round; so what is
compared stands side by side. Limits of rows are upper ones: `must` is promised, `aim` is where we
want to be.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Load:
    """A verb of peal-load and its options, underscores for dashes; of peal-keep without a verb."""

    verb: str
    options: dict
    quick: dict  # what is different with --quick
    deadline_s: int = 150  # with connecting, warming up and draining

    def chosen(self, quick, sets=()):
        """sets: {option: value} of the command line, for those options that the load has."""
        chosen = {**self.options, **(self.quick if quick else {})}
        return {**chosen, **{name: value for name, value in dict(sets).items() if name in chosen}}


def load(verb, quick, **options):
    return Load(verb, options, quick)


def keep(quick, deadline_s=150, **options):
    return Load("", options, quick, deadline_s)


@dataclasses.dataclass(frozen=True)
class Fill:
    """What is in the store before the server starts: so many messages of so many users."""

    load: Load
    killed: bool = False  # who stored it had no time to close anything


@dataclasses.dataclass(frozen=True)
class Subject:
    """One server under one load."""

    name: str
    server: str  # dev, 1x1, curve, send, coal, redis ...: see servers.py
    load: Load
    target: str = ""  # how connections speak: raw, native, floor; peal-keep has none
    door: str = "push"  # where messages enter
    path: str = ""
    token: bool = False  # each connection names a user by a token
    settings: dict = dataclasses.field(default_factory=dict)  # of Peal's configuration
    rate_of: tuple = ()  # (subject, share): the rate is this share of what that one reached
    program: str = "peal"  # or "versus", the second one of an A/B test
    stored: Fill | None = None
    counters: bool = False  # what the store counted is kept and shown

    @property
    def is_floor(self):
        """Whether the program peal is not in it, so that no other one can take its place."""
        return self.server in ("send", "coal", "redis", "file", "store")


@dataclasses.dataclass(frozen=True)
class Row:
    """A figure of a subject; with base, its ratio to that of base in the same round.

    relative_to: (subject, base) of another such ratio by which this one is divided."""

    metric: str  # a key of METRICS
    subject: str
    base: str | None = None
    relative_to: tuple | None = None
    must: float | None = None
    aim: float | None = None

    @property
    def is_ratio(self):
        return self.base is not None or self.relative_to is not None

    @property
    def label(self):
        of = self.subject if self.base is None else f"{self.subject} / {self.base}"
        if self.relative_to is not None:
            than = self.relative_to[0]
            if self.relative_to[1] is not None:
                than += f" / {self.relative_to[1]}"
            of = f"({of}) / ({than})" if self.base is not None else f"{of} / {than}"
        return f"{of}: {METRICS[self.metric][0]}"


# Name of a figure in the output of peal-load, or computed in results.py: (what it is, unit).
METRICS = {
    "cpu_us_per_delivery": ("CPU per delivery", "µs"),
    "cpu_us_per_handshake": ("CPU per handshake", "µs"),
    "latency_us.p99": ("p99 latency", "µs"),
    "memory_per_connection": ("memory per connection", "B"),
    "memory": ("memory of all server processes", "B"),
    "anonymous": ("memory that is in no file", "B"),
    "first_to_last": ("first to last delivery", "µs"),
    "cpu_per_message": ("CPU per message", "µs"),
    "time_per_message": ("time per message", "µs"),
    "latency_us.p999": ("p99.9 latency", "µs"),
    "latency_us.max": ("max latency", "µs"),
    "open_s": ("start to first receipt", "s"),
    "fill.memory_per_message": ("memory of the store per message", "B"),
}


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    subjects: tuple
    rows: tuple


# ---- The subjects that most scenarios have --------------------------------------------------


def raw(load, name="raw", server="dev", path="/b/{group}", **options):
    return Subject(name, server, load, "raw", path=path, **options)


def native(load, name="native", server="dev", token=False, **options):
    path = "/v1/ws" if token else "/n"
    return Subject(name, server, load, "native", path=path, token=token, **options)


def floor(load, mode, name=None, **options):
    return Subject(name or f"floor {mode}", mode, load, "floor", door="floor", **options)


def plain(load):
    """Peal with one send() for each connection, as the floor and as where io_uring is forbidden."""
    return raw(load, "raw, send()", settings={"io_uring": False})


def cpu(subject, base=None, **limits):
    return Row("cpu_us_per_delivery", subject, base, **limits)


def p99(subject, base=None, **limits):
    return Row("latency_us.p99", subject, base, **limits)


# ---- Fan-out: one group, many subscribers ---------------------------------------------------


def paced(connections, rate, burst, **more):
    return load(
        "fanout",
        {"seconds": 1},
        connections=connections,
        groups=1,
        rate=rate,
        burst=burst,
        seconds=3,
        **more,
    )


def low(connections, rate, **more):
    return paced(connections, rate, 1, **more)


def burst(connections, rate, **more):
    return paced(connections, rate, 64, **more)


def fanout_low():
    calm = low(1000, 20)
    doors = [raw(calm, f"raw by {door}", door=door) for door in ("http", "rpc")]
    return Scenario(
        "F1-low",
        "1 group, 1,000 subscribers, 20 messages/s; raw, send(): without io_uring",
        (raw(calm), floor(calm, "send"), plain(calm), native(calm), *doors),
        (
            cpu("raw", "floor send", must=1.10, aim=0.95),
            p99("raw", "floor send", must=1.25, aim=1.0),
            cpu("raw, send()", "floor send"),
            p99("raw, send()", "floor send"),
            cpu("native", "floor send"),
            p99("native", "floor send"),
            *(cpu(door.name, "floor send") for door in doors),
        ),
    )


def fanout(name, title, work, mode, must, aim=None, more=()):
    """more: subjects beside the usual ones, each with a row without limits."""
    base = f"floor {mode}"
    return Scenario(
        name,
        title,
        (raw(work), floor(work, mode), *more, native(work)),
        (
            cpu("raw", base, must=must, aim=aim),
            *(cpu(subject.name, base) for subject in more),
            cpu("native", base),
        ),
    )


def fanout_burst():
    bursts = burst(1000, 5)
    return fanout(
        "F1-burst",
        "1 group, 1,000 subscribers, 5 bursts of 64 messages/s; raw, send(): without io_uring",
        bursts,
        "coal",
        must=1.6,
        aim=1.2,
        more=(plain(bursts),),
    )


# ---- Users at random ------------------------------------------------------------------------


def users():
    most = load(
        "random", {"count": 40000}, connections=5000, groups=5000, window=1024, count=150000
    )
    # The rate is filled in from what the round has measured.
    half = load("random", {"count": 20000}, connections=5000, groups=5000, count=60000)
    return Scenario(
        "U1",
        "5,000 users, each its own group, at random: at most, and at half of that",
        (
            raw(most, "embedded"),
            floor(most, "send"),
            raw(most, "router + node", server="1x1"),
            native(most, "native embedded"),
            raw(half, "embedded, half", rate_of=("embedded", 0.5)),
            # At the rate of the run above, not at half of its own most: latencies compare only
            # under the same load.
            floor(half, "send", "floor send, half", rate_of=("embedded", 0.5)),
            raw(half, "router + node, half", server="1x1", rate_of=("router + node", 0.5)),
        ),
        (
            cpu("embedded", "floor send", must=1.15, aim=1.0),
            cpu("router + node", "floor send", must=1.40, aim=1.0),
            cpu("native embedded", "floor send"),
            p99("embedded, half", must=2000),
            p99("floor send, half"),
            p99("embedded, half", "floor send, half"),
            p99("router + node, half", must=2000),
        ),
    )


def curve():
    most = load(
        "random", {"count": 40000}, connections=5000, groups=5000, window=1024, count=150000
    )
    steady = load("random", {"count": 10000}, connections=5000, groups=5000, rate=3000, count=30000)
    return Scenario(
        "curve",
        "5,000 users at random, router and node in two processes: what CURVE on the bus costs",
        (
            raw(most, "plain", server="1x1"),
            raw(most, "curve", server="curve"),
            raw(steady, "plain, 3,000/s", server="1x1"),
            raw(steady, "curve, 3,000/s", server="curve"),
        ),
        (
            cpu("curve", "plain"),
            cpu("curve, 3,000/s", "plain, 3,000/s"),
            p99("curve, 3,000/s", "plain, 3,000/s"),
        ),
    )


# ---- Inboxes: stored first -------------------------------------------------------------------


def inbox_groups(settled):
    """The rules for groups, with inboxes large enough that nothing has to go for want of room."""
    keep_all = {"messages": 8192, "bytes": "64MiB", "settled": settled}
    return {
        "groups": [
            {"match": "user:{id}", "durable": True, "keep": keep_all},
            {"match": "*", "history": {"messages": 100, "age": "5m"}, "join": "anyone"},
        ]
    }


KEPT = inbox_groups("1h")
GONE_WHEN_ACKED = inbox_groups("0s")


def by_door(load, name="peal", **options):
    return Subject(name, "dev", load, **{"settings": KEPT, **options})


def redis(load, name="redis RPUSH"):
    return Subject(name, "redis", load)


def append(load):
    return Subject("append + fdatasync", "file", load)


def store_alone(load, name="store alone", settings=None, **options):
    """Nothing around the store: peal-keep has it in its own process."""
    return Subject(name, "store", load, settings=settings or KEPT, **options)


def cost(subject, base=None, **limits):
    return Row("cpu_per_message", subject, base, **limits)


def time_of(subject, base=None, **limits):
    return Row("time_per_message", subject, base, **limits)


def at_least(rate):
    """A least rate as a limit of time, since less is better in all rows: as a share of the base's
    rate, or in messages per µs."""
    return 1 / rate


def store_many():
    work = keep({"seconds": 1.5}, users=500, window=256, seconds=4)
    streams = keep({"seconds": 1.5}, users=500, window=256, seconds=4, redis="xadd")
    return Scenario(
        "D1",
        "500 absent users, acknowledged door, 256 messages under way",
        (
            by_door(work),
            redis(work),
            redis(streams, "redis XADD"),
            store_alone(work),
            append(work),
        ),
        (
            time_of("peal", "redis RPUSH", must=at_least(1.0)),
            cost("peal", must=4),
            cost("peal", "redis RPUSH"),
            time_of("peal", "redis XADD"),
            time_of("store alone", "redis RPUSH"),
            cost("store alone"),
            time_of("peal", "append + fdatasync"),
        ),
    )


def store_one():
    work = keep({"seconds": 1}, users=500, window=1, seconds=3)
    return Scenario(
        "D1-one",
        "500 absent users, acknowledged door, one message at a time",
        (by_door(work), append(work), redis(work)),
        (
            time_of("peal", "append + fdatasync", must=at_least(0.7)),
            time_of("redis RPUSH", "append + fdatasync"),
            p99("peal", "append + fdatasync"),
        ),
    )


def reconnect():
    users, each = 10000, 100
    work = load(
        "drain",
        {"connections": 2000, "groups": 2000},
        connections=users,
        groups=users,
        stored=each,
        prefix="user:u",
    )
    fill = Fill(
        keep({"users": 2000, "preload": 2000 * each}, 3600, users=users, preload=users * each)
    )
    inbox = raw(work, "peal", path="/inbox", token=True, settings=KEPT, stored=fill)
    return Scenario(
        "D2",
        "10,000 users (quick: 2,000) come back to 100 stored messages each, which they ack; "
        "latency: from the request to the first message",
        (inbox,),
        (time_of("peal", must=at_least(0.3)), p99("peal", must=100000), cost("peal")),
    )


def deliver():
    alone = keep({"seconds": 1.5}, users=500, window=256, seconds=4)
    online = load(
        "random",
        {"count": 40000},
        connections=500,
        groups=500,
        window=256,
        count=150000,
        prefix="user:u",
    )
    return Scenario(
        "D3",
        "500 users online: stored, delivered, acked; beside the same users absent",
        (
            raw(
                online,
                "online",
                path="/inbox",
                token=True,
                door="rpc",
                settings=GONE_WHEN_ACKED,
                counters=True,
            ),
            by_door(alone, "absent", settings=GONE_WHEN_ACKED, counters=True),
        ),
        (cost("online", "absent", must=1.5), cost("online"), cost("absent"), p99("online")),
    )


def millions():
    """The figures of the table are those of the full size; --set has others."""
    few = {"users": 20000, "preload": 100000}
    fill = Fill(keep(few, 3600, users=1000000, preload=10000000))
    short = {"users": 20000, "seconds": 2}
    sizes = {"users": 1000000, "window": 256, "seconds": 60}
    acked = keep(short, 1800, **sizes, acked=90, check=1)
    none_acked = keep(short, 1800, **sizes, check=1)
    through_door = keep(short, 1800, **sizes)
    beside = keep({**short, **few}, 1800, **sizes, preload=10000000)
    return Scenario(
        "D4",
        "10 M messages of 1 M users are stored (quick: 100,000 of 20,000); 60 s (2 s) more, the "
        "store alone",
        (
            store_alone(acked, "90 % acked", GONE_WHEN_ACKED, stored=fill),
            redis(beside),
            store_alone(none_acked, "none acked", GONE_WHEN_ACKED, stored=fill),
            by_door(through_door, "none acked, by door", settings=GONE_WHEN_ACKED, stored=fill),
        ),
        (
            time_of("90 % acked", "redis RPUSH", must=at_least(0.6)),
            Row("latency_us.p999", "90 % acked", must=25000),
            Row("latency_us.max", "90 % acked", must=100000),
            cost("90 % acked"),
            time_of("none acked", must=at_least(0.1)),
            cost("none acked"),
            time_of("none acked, by door"),
            Row("fill.memory_per_message", "none acked", must=40),
        ),
    )


def reopen():
    few = {"users": 20000, "preload": 100000}
    fill = Fill(keep(few, 3600, users=1000000, preload=10000000), killed=True)
    first = keep({"users": 20000}, users=1000000, window=1, count=1)
    return Scenario(
        "D5",
        "10 M messages of 1 M users (quick: 100,000 of 20,000), kill -9, then the first receipt",
        (by_door(first, stored=fill),),
        (
            Row("open_s", "peal", must=5),
            Row("fill.memory_per_message", "peal", must=40),
            Row("anonymous", "peal"),
        ),
    )


def inboxes():
    def work(**more):
        return load(
            "random",
            {"count": 10000},
            connections=5000,
            groups=5000,
            window=1024,
            count=40000,
            **more,
        )

    stored = work(prefix="user:u")  # the user of connection i is u<i>
    inbox = {"path": "/inbox", "token": True}
    return Scenario(
        "U2",
        "5,000 users, each with an inbox, at random: on disk before it is sent, acked after",
        (
            raw(stored, "router + node", server="1x1", **inbox),
            floor(work(), "send"),
            raw(stored, "embedded", **inbox),
            raw(work(), "not durable", server="1x1"),
        ),
        (
            cpu("router + node", "floor send", must=2.0),
            cpu("router + node", "not durable"),
            cpu("embedded", "floor send"),
            p99("router + node"),
        ),
    )


# ---- Connections ----------------------------------------------------------------------------


def memory(subject, base=None, **limits):
    return Row("memory_per_connection", subject, base, **limits)


def memory_shared():
    work = load("hold", {}, steps="1000,15000", groups=1)
    return Scenario(
        "M1a",
        "memory of one more idle connection between 1,000 and 15,000, all in one group",
        (raw(work), floor(work, "send"), native(work)),
        (memory("raw", must=2000, aim=700), memory("floor send"), memory("native")),
    )


def memory_own():
    work = load("hold", {}, steps="1000,15000", groups=15000)
    # A raw client knows that it has joined by a message, which is not to be kept: the connection is
    # measured and not the history of its group.
    groups = [{"match": "user:{id}", "durable": True}, {"match": "*", "join": "anyone"}]
    settings = {"groups": groups}
    return Scenario(
        "M1b",
        "memory of one more connection, with a token and an own group, in router and node together",
        (
            raw(work, server="1x1", path="/t/{group}", token=True, settings=settings),
            native(work, server="1x1", token=True, settings=settings),
        ),
        (memory("raw", must=2400, aim=1100), memory("native")),
    )


def handshakes():
    work = load("shake", {"count": 5000}, count=10000, concurrency=64)

    def cost(subject, base, **limits):
        return Row("cpu_us_per_handshake", subject, base, **limits)

    return Scenario(
        "C1",
        "handshake with a token, group joined and confirmed by the router, close",
        (
            native(work, "embedded", token=True),
            floor(work, "send"),
            native(work, "router + node", server="1x1", token=True),
        ),
        (
            cost("embedded", "floor send", must=2.5, aim=1.7),
            cost("router + node", "floor send"),
        ),
    )


# ---- Growth: flat within 20 % ---------------------------------------------------------------

FLAT = 1.20


def workers():
    # One epoll instance in one client process is a lock that the sends of several workers meet on:
    # what arrives at a socket is put on the list of the instance by the one who sends. That would
    # be the load's cost and not Peal's. All rows have the same clients, those of one worker too.
    clients = 4
    calm, bursts = low(1000, 20, processes=clients), burst(1000, 5, processes=clients)

    def subjects(name, work):
        return [
            raw(work, f"{name}, workers {count}", settings={"workers": count})
            for count in (1, 2, 4)
        ]

    low_1, low_2, low_4 = subjects("low", calm)
    burst_1, burst_2, burst_4 = subjects("burst", bursts)
    return Scenario(
        "growth-workers",
        "1 group, 1,000 subscribers, over more worker threads",
        (low_1, low_2, low_4, burst_1, burst_2, burst_4),
        (
            cpu(low_2.name, low_1.name, must=FLAT),
            cpu(low_4.name, low_1.name, must=FLAT),
            cpu(burst_2.name, burst_1.name, must=FLAT),
            cpu(burst_4.name, burst_1.name, must=FLAT),
        ),
    )


def crowds():
    # About the same deliveries a second at each size.
    sizes = {"1k": low(1000, 40), "10k": low(10000, 4), "15k": low(15000, 3)}
    subjects, rows = [], []
    for size, work in sizes.items():
        subjects += [raw(work, f"raw {size}"), floor(work, "send", f"floor {size}")]
        rows.append(cpu(f"raw {size}", f"floor {size}"))
        if size != "1k":
            first = ("raw 1k", "floor 1k")
            rows.append(cpu(f"raw {size}", f"floor {size}", relative_to=first, must=FLAT))
            rows.append(cpu(f"raw {size}", relative_to=("raw 1k", None)))
    return Scenario(
        "growth-connections",
        "1 group with more subscribers, as ratio to the floor of that size, and alone",
        tuple(subjects),
        tuple(rows),
    )


def many_groups():
    subjects = []
    for name, each in (("1k", 1), ("100k", 100), ("1M", 1000)):
        work = load(
            "random",
            {"count": 200000},  # shorter, and it is the first message of most groups that is measured
            connections=1000,
            groups=1000 * each,
            groups_per_connection=each,
            window=1024,
            count=600000,
        )
        settings = {"limits": {"groups_per_connection": 1000}}
        subjects.append(native(work, f"groups {name}", settings=settings))
    return Scenario(
        "growth-groups",
        "1,000 connections in 1, 100 and 1,000 groups of their own each, messages at random",
        tuple(subjects),
        tuple(cpu(s.name, subjects[0].name, must=FLAT) for s in subjects[1:]),
    )


# ---- Clusters -------------------------------------------------------------------------------


def many_processes():
    work = load(
        "random", {"count": 60000}, connections=5000, groups=5000, rate=20000, count=200000
    )
    return Scenario(
        "cluster-U1",
        "5,000 users on 4 nodes behind 4 routers, 20,000 messages/s",
        (raw(work, "1 x 1", server="1x1"), raw(work, "4 x 4", server="4x4")),
        (cpu("4 x 4", "1 x 1", must=1.5), p99("1 x 1"), p99("4 x 4")),
    )


def many_connections():
    # One message in five seconds: the next one must not come before the last has its copy.
    work = load(
        "fanout", {}, connections=100000, groups=1, rate=0.2, burst=1, seconds=10, processes=8
    )
    return Scenario(
        "cluster-100k",
        "1 group, 100,000 subscribers on 8 nodes behind 1 router",
        (raw(work, "1 x 8", server="1x8"),),
        (
            Row("memory", "1 x 8", must=600 * 2**20),
            Row("first_to_last", "1 x 8"),
            cpu("1 x 8"),
        ),
    )


SCENARIOS = (
    fanout_low(),
    fanout_burst(),
    fanout(
        "F1-flood",
        "1 group, 1,000 subscribers, as fast as it goes with 512 messages under way",
        load("flood", {"count": 5000}, connections=1000, groups=1, window=512, count=20000),
        "coal",
        must=2.5,
        aim=1.5,
    ),
    fanout(
        "F2-low",
        "1 group, 10,000 subscribers, 4 messages/s",
        low(10000, 4),
        "send",
        must=1.15,
    ),
    fanout(
        "F2-burst",
        "1 group, 10,000 subscribers, 1 burst of 64 messages/s",
        burst(10000, 1),
        "coal",
        must=1.6,
    ),
    users(),
    curve(),
    store_many(),
    store_one(),
    reconnect(),
    deliver(),
    millions(),
    reopen(),
    inboxes(),
    memory_shared(),
    memory_own(),
    handshakes(),
    workers(),
    crowds(),
    many_groups(),
    many_processes(),
    many_connections(),
)


def pick(names, scenarios=SCENARIOS):
    """The scenarios whose names begin with one of names, each once; all of them for `all`.

    ValueError: one of the names begins none."""
    picked = []
    for name in names:
        found = [
            scenario
            for scenario in scenarios
            if name == "all" or scenario.name.lower().startswith(name.lower())
        ]
        if not found:
            raise ValueError(f"there is no scenario {name}")
        picked += [scenario for scenario in found if scenario not in picked]
    return picked


def against(scenario):
    """The scenario as A/B test: each subject that is Peal once by either program, without floor.

    The second program's subjects are called like the first's with " B" behind."""
    subjects, rows = [], []
    for subject in scenario.subjects:
        if not subject.is_floor:
            subjects += [subject, versus(subject)]
    floors = {subject.name for subject in scenario.subjects if subject.is_floor}
    for row in scenario.rows:
        if row.subject not in floors:
            new = Row(row.metric, row.subject, f"{row.subject} B")
            rows += [] if new in rows else [new]
    return dataclasses.replace(scenario, subjects=tuple(subjects), rows=tuple(rows))


def versus(subject):
    rate_of = (f"{subject.rate_of[0]} B", subject.rate_of[1]) if subject.rate_of else ()
    return dataclasses.replace(subject, name=f"{subject.name} B", rate_of=rate_of, program="versus")
