"""peal store: what there is, whether it is whole, copies of it, and a store made of a copy."""

import itertools
import json
import threading

import pytest

from command import run
from native import Native
from peal import publish
from tokens import token

LOCKED, DAMAGED, CONFIG_WRONG = 75, 65, 78
USERS = [f"user-{n}" for n in range(8)]
KEEP = 40
CONFIG = {
    "groups": [{"match": "user:{id}", "durable": True, "keep": {"messages": KEEP}}],
    # So small that the log is moved to the inbox again and again.
    "store": {"max": "16MiB"},
}


@pytest.fixture
def server(start_peal):
    return start_peal(CONFIG)


def data(server):
    return server.config["data"]


def store(verb, *args, **kwargs):
    return run("store", verb, *args, **kwargs)


def page(server, user):
    answer = server.api.get(f"/v1/inbox/{user}?limit=200")
    assert answer.status == 200, answer
    return answer.json


def listing(server, user):
    return sorted(page(server, user)["messages"], key=lambda m: m["offset"])


def contents(server, users=USERS):
    """Everything but the epochs."""
    return {
        user: [(m["offset"], m["id"], m["data"], m["delivered"], m["ts"]) for m in listing(server, user)]
        for user in users
    }


def epochs(server, users=USERS):
    return {page(server, user)["epoch"] for user in users}


def fill(server, count=3):
    for n, user in itertools.product(range(count), USERS):
        publish(server, user=user, data={"n": n, "text": "a \"line\"\nand \u00fc"})
    with Native(server.url, token(USERS[0])) as client:
        client.messages(count)
        client.send("ack", upto=2)
        client.next("state")


def sound(folder):
    result = store("verify", folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("ok: 0 problems"), result.stdout
    return result


def stats(folder):
    result = store("stats", folder)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_stats_and_verify_say_the_same_of_a_running_and_a_stopped_store(server):
    fill(server)
    sound(data(server))
    running = stats(data(server))
    assert running["heads"] == len(USERS)
    assert running["messages"] == 3 * len(USERS)
    assert running["unread"] == 3 * len(USERS) - 2
    assert running["log_waiting"] == 3 * len(USERS) + 1
    assert 0 < running["oldest_ms"] <= running["newest_ms"]
    server.stop()
    sound(data(server))
    assert stats(data(server)) == running


def test_dump_is_loaded_as_a_store_with_the_same_messages_and_other_epochs(server, tmp_path):
    fill(server)
    before, old = contents(server), epochs(server)
    result = store("dump", data(server))  # it runs
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines[0]["peal_dump"] == 1
    assert lines[-1] == {"end": True, "groups": len(USERS), "messages": 3 * len(USERS)}
    server.stop()

    loaded = tmp_path / "loaded"
    done = store("load", loaded, input=result.stdout)
    assert (done.returncode, done.stdout) == (0, f"{len(USERS)} groups, {3 * len(USERS)} messages\n")
    sound(loaded)
    server.config["data"] = str(loaded)
    server.start()
    assert contents(server) == before
    assert not epochs(server) & old
    assert publish(server, user=USERS[0], data=1)["offset"] == 4
    sound(loaded)


def test_load_refuses_what_is_not_a_whole_dump_and_leaves_nothing(server, tmp_path):
    fill(server, 1)
    server.stop()
    text = store("dump", data(server)).stdout
    lines = text.splitlines(keepends=True)
    for wrong, says in [
        ("".join(lines[:-1]), "cut off"),
        ("".join(lines[:3] + lines[4:]), "line "),
        ("{}\n" + text, "line 1:"),
        (text.replace('"peal_dump":1', '"peal_dump":2'), "version"),
    ]:
        result = store("load", tmp_path / "new", input=wrong)
        assert result.returncode == DAMAGED, result.stderr
        assert says in result.stderr
        assert not list((tmp_path / "new").iterdir())
    assert store("load", data(server), input=text).returncode == CONFIG_WRONG  # it is not empty


def test_verify_names_a_damaged_message(server):
    fill(server, 1)
    publish(server, user="alice", data="a text that nothing else has in it")
    server.stop()
    path = f"{data(server)}/log/data.mdb"
    with open(path, "r+b") as file:
        content = file.read()
        at = content.index(b"a text that nothing else has")
        file.seek(at)
        file.write(b"A")
    result = store("verify", data(server))
    assert result.returncode == DAMAGED
    assert "log: record 10 is damaged" in result.stdout
    assert store("dump", data(server)).returncode == DAMAGED


def test_a_file_that_was_cut_off_is_an_error_and_no_crash(server):
    fill(server)
    server.stop()
    path = f"{data(server)}/log/data.mdb"
    with open(path, "r+b") as file:
        file.truncate(5 * 4096)
    for verb in ("stats", "verify", "dump"):
        result = store(verb, data(server))
        assert result.returncode == DAMAGED, (verb, result.stderr)
        assert "damaged" in result.stderr or "cut off" in result.stderr


def test_folders_that_are_none_are_refused(tmp_path):
    for verb, *args in [("stats",), ("verify",), ("dump",), ("compact",), ("backup", tmp_path / "b")]:
        result = store(verb, tmp_path / "none", *args)
        assert result.returncode == CONFIG_WRONG, (verb, result.stderr)
    assert not list(tmp_path.iterdir())


def test_compact_needs_a_stopped_store_and_gives_pages_back(server):
    for n in range(3 * KEEP):
        publish(server, user=USERS[n % 2], data="x" * 20000)
    before = contents(server)
    refused = store("compact", data(server))
    assert refused.returncode == LOCKED, refused.stderr
    server.stop()
    result = store("compact", data(server))
    assert result.returncode == 0, result.stderr
    words = result.stdout.split()
    assert int(words[3]) <= int(words[0])
    sound(data(server))
    assert stats(data(server))["log_free_bytes"] < 64 * 1024
    server.start()
    assert contents(server) == before


class Publisher(threading.Thread):
    """Publishes and notes what was acknowledged, until it is told to end."""

    def __init__(self, server):
        super().__init__()
        self.server = server
        self.acked = {user: {} for user in USERS}  # offset: number; one writer
        self.ended = threading.Event()
        self.failed = None

    def run(self):
        try:
            for n in itertools.count():
                if self.ended.is_set():
                    return
                batch = [{"user": user, "data": {"n": n, "pad": "x" * 3000}} for user in USERS]
                answer = self.server.api.post("/v1/publish", batch)
                assert answer.status == 200, answer
                for user, result in zip(USERS, answer.json["results"]):
                    assert result["ack"] == "stored", result
                    self.acked[user][result["offset"]] = n
        except Exception as error:  # told by the test
            self.failed = error


def test_backups_under_load_have_everything_that_was_acknowledged_before(start_peal, tmp_path):
    server = start_peal(CONFIG)
    publisher = Publisher(server)
    publisher.start()
    copies = []
    try:
        for n in range(8):
            acked = {user: dict(found) for user, found in publisher.acked.items()}
            result = store("backup", data(server), tmp_path / f"copy-{n}")
            assert result.returncode == 0, result.stderr
            copies.append(acked)
            sound(data(server))  # nothing that goes on is taken for damage
    finally:
        publisher.ended.set()
        publisher.join()
    assert publisher.failed is None, publisher.failed
    # The log was moved and cut meanwhile.
    assert stats(data(server))["log_records"] < sum(map(len, publisher.acked.values()))
    old = epochs(server)
    server.stop()

    seen = set(old)
    for n, acked in enumerate(copies):
        sound(tmp_path / f"copy-{n}")
        server.config["data"] = str(tmp_path / f"copy-{n}")
        server.start()
        for user in USERS:
            found = {m["offset"]: m["data"]["n"] for m in listing(server, user)}
            # Retention is the only thing that may have taken one: the oldest of KEEP.
            wanted = {o: v for o, v in acked[user].items() if o > max(found, default=0) - KEEP}
            assert {o: found.get(o) for o in wanted} == wanted, (n, user)
            assert max(found, default=0) >= max(acked[user], default=0)
        new = epochs(server)
        assert not new & seen  # nothing is given twice, whatever clients have seen
        seen |= new
        server.stop()


def test_one_backup_that_is_used_twice_begins_other_epochs_each_time(server, tmp_path):
    fill(server)
    assert store("backup", data(server), tmp_path / "copy").returncode == 0
    again = store("backup", data(server), tmp_path / "copy")
    assert again.returncode == CONFIG_WRONG and "not an empty folder" in again.stderr
    assert store("backup", tmp_path / "copy", tmp_path / "copy-of-it").returncode == 0
    before, old = contents(server), epochs(server)
    generation = stats(data(server))["generation"]
    server.stop()
    for name in ("copy", "copy-of-it"):
        server.config["data"] = str(tmp_path / name)
        server.start()
        assert contents(server) == before
        new = epochs(server)
        assert len(new) == len(USERS) and not new & old
        assert stats(tmp_path / name)["generation"] != generation
        old |= new
        server.stop()
        server.start()
        assert epochs(server) == new  # only the first start begins epochs
        server.stop()
