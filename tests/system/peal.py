"""tests/system/peal.py: one process of the program under test.

    with Peal(tmp_path, config={"routes": [...]}) as server:
        server.api.post("/v1/publish", {...})
        server.wait_for("conn.closed", reason="slow")

The kernel chooses the ports of the first start; later starts of the same object reuse them and
the data directory, so that clients find a restarted server. Two threads read stdout and stderr,
so waiting for a line needs no polling and a full pipe never stops the program.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time

from web import Http

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = [ROOT / "build/dev/cli/peal", ROOT / "build/release/peal"]

API_KEY = "key-of-the-system-tests"
SECRET = "secret-of-the-system-tests-32-bytes-long"

# Under the address sanitizer and on a busy machine; only a hang gets this far.
DEADLINE_S = 30

# What no process may ever print. `peal: bug` is a failed PEAL_ASSERT.
REPORTS = re.compile(
    r"ERROR: (Address|Leak|Memory)Sanitizer|WARNING: ThreadSanitizer|runtime error:|peal: bug"
)


def program():
    """The program under test: $PEAL_BIN, or what was built last for tests or release."""
    given = os.environ.get("PEAL_BIN")
    for path in [pathlib.Path(given)] if given else PROGRAMS:
        if path.is_file():
            return path
    raise FileNotFoundError(f"no program to test: {given or PROGRAMS}; ./dev build dev makes it")


def stacks(pid):
    """Where the threads of a process that hangs are."""
    if shutil.which("gdb") is None:
        return "(with gdb installed, the stacks of all threads would stand here)"
    command = ["gdb", "-p", str(pid), "-batch", "-ex", "thread apply all backtrace 20"]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S).stdout


def wait_until(condition, what, timeout=DEADLINE_S):
    """Asks for what no event tells, until the answer is true; returns it. what is the complaint."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return answer


def publish(server, **message):
    """One message through the API of a node; returns its receipt."""
    answer = server.api.post("/v1/publish", message)
    assert answer.status == 200, answer
    return answer.json


class Lines:
    """The lines of one stream, as they come, also in a file."""

    def __init__(self, path):
        self.path = path
        self.lines = []
        self._changed = threading.Condition()
        self._readers = 0

    def read(self, stream):
        """Starts reading stream; returns the thread, which ends with the stream."""

        def run():
            with stream, open(self.path, "a", encoding="utf-8") as file:
                for raw in stream:
                    line = raw.decode("utf-8", "backslashreplace").rstrip("\n")
                    file.write(line + "\n")
                    file.flush()
                    with self._changed:
                        self.lines.append(line)
                        self._changed.notify_all()
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

        with self._changed:
            self._readers += 1
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def wait(self, matches, start=0, timeout=DEADLINE_S):
        """The index of the first line from start on that matches.

        Raises TimeoutError, also as soon as the stream has ended without such a line."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for index in range(start, len(self.lines)):
                    if matches(self.lines[index]):
                        return index
                start = max(start, len(self.lines))
                left = deadline - time.monotonic()
                if self._readers == 0 or left <= 0:
                    raise TimeoutError("the stream ended" if left > 0 else f"{timeout} s are over")
                self._changed.wait(left)

    def text(self):
        with self._changed:
            return "\n".join(self.lines)


def event_fields(line):
    """(event, fields) of a log line `time level event key=value ...`; (None, {}) of others."""
    words = line.split(" ", 3)
    if len(words) < 3 or words[1] not in ("error", "warn", "info", "debug"):
        return None, {}
    try:
        pairs = shlex.split(words[3]) if len(words) == 4 else []
    except ValueError:  # a quote that the cut at 1,024 bytes left open
        pairs = words[3].split(" ")
    return words[2], dict(pair.split("=", 1) for pair in pairs if "=" in pair)


class Peal:
    """A process `peal VERB -c FILE`; by default all in one process, `peal dev`."""

    def __init__(self, directory, config=None, verb="dev", args=(), env=None, wrapper=()):
        """config: top-level settings that replace those of the harness.

        wrapper: a command in front that becomes the program by exec, such as prlimit."""
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.verb = verb
        self.args = list(args)
        self.wrapper = list(wrapper)
        suppressions = {"TSAN_OPTIONS": f"suppressions={ROOT / 'tests/tsan.supp'}"}
        self.env = {**suppressions, **os.environ, **(env or {})}
        any_port = "tcp://127.0.0.1:*"
        self.config = {
            "listen": "127.0.0.1:0",
            "data": str(self.directory / "data"),
            "api": {"listen": "127.0.0.1:0", "keys": [API_KEY]},
            "auth": {"keys": [{"alg": "HS256", "secret": SECRET}]},
            "doors": {"pull": any_port, "xpub": any_port, "rpc": any_port},
            # Whoever stops a node wants it to be gone, unless that is what is tested.
            "drain": {"settle": "0s", "spread": "0s"},
            **(config or {}),
        }
        self.process = None
        self.url = None  # http://127.0.0.1:PORT, for browsers; None for a router
        self.api_url = None  # the same for backends
        self.doors = {}  # pull, xpub, rpc: ZeroMQ endpoints
        self.log = Lines(self.directory / "stderr.txt")
        self._out = None
        self._threads = []
        self._awaited = False  # the end of this process is one that the test asked for

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        """Finishes it. When the test has failed already, its error is the one to show."""
        if kind is None:
            self.finish()
        else:
            self.kill()

    @property
    def pid(self):
        return self.process.pid

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def start(self):
        """Starts it and waits until it is ready."""
        self.launch()
        try:
            self._read_addresses()
        except TimeoutError as late:
            self.kill()
            raise RuntimeError(f"peal is not ready: {late}\n{self._told()}") from None
        return self

    def launch(self):
        """Starts it and waits for nothing: for starts that are meant to fail."""
        assert not self.running
        # JSON is YAML, and needs no package to write.
        path = self.directory / "peal.yaml"
        path.write_text(json.dumps(self.config, ensure_ascii=False, indent=1), encoding="utf-8")
        path.chmod(0o600)
        self.process = subprocess.Popen(
            [*self.wrapper, str(program()), self.verb, "-c", str(path), *self.args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.directory,
            env=self.env,
        )
        self._awaited = False
        self._out = Lines(self.directory / "stdout.txt")
        self._threads = [self._out.read(self.process.stdout), self.log.read(self.process.stderr)]
        return self

    def _read_addresses(self):
        """Lines on stdout, in this order: ready, api, and doors where there is a router."""
        ready = self._out.wait(lambda line: line.startswith("peal: ready "))
        assert ready == 0, f"the first line on stdout is {self._out.lines[0]!r}"
        api = self._out.wait(lambda line: line.startswith("peal: api http://"), ready)
        where = self._out.lines[ready].split()[2]
        if where not in ("router", "relay"):
            self.url = where.rstrip("/")
            self.config["listen"] = self.url.split("://")[1]
        self.api_url = self._out.lines[api].split()[2].rstrip("/")
        self.config["api"] = {**self.config["api"], "listen": self.api_url.split("://")[1]}
        if self.verb in ("dev", "router"):
            doors = self._out.wait(lambda line: line.startswith("peal: doors "), api)
            words = self._out.lines[doors].split()[2:]
            self.doors = dict(word.split("=", 1) for word in words)
            # In one process the doors between its parts are no addresses to bind.
            tcp = {name: door for name, door in self.doors.items() if door.startswith("tcp://")}
            self.config["doors"] = {**self.config["doors"], **tcp}

        if self.verb == "relay":
            doors = self._out.wait(lambda line: line.startswith("peal: doors "), api)
            self.doors = {"xpub": self._out.lines[doors].split("xpub=")[1].split(",")}
            self.config["doors"] = {"relay": self.doors["xpub"]}

    @property
    def api(self):
        """The HTTP API as a backend sees it."""
        return Http(self.api_url, {"Authorization": f"Bearer {API_KEY}"})

    @property
    def web(self):
        """The browser port, without any authority."""
        return Http(self.url)

    def wait_for(self, event, start=0, timeout=DEADLINE_S, **fields):
        """Waits for a log line of event with these fields, from log line `start` on.

        Returns its number; hand in that + 1 to wait for the next one."""
        wanted = {key: str(value) for key, value in fields.items()}

        def matches(line):
            name, found = event_fields(line)
            return name == event and wanted.items() <= found.items()

        try:
            return self.log.wait(matches, start, timeout)
        except TimeoutError as late:
            raise TimeoutError(f"no {event} {fields or ''}: {late}\n{self._told()}") from None

    def exit_code(self, timeout=DEADLINE_S):
        """Waits for the end; all it printed has then been read."""
        self._awaited = True
        code = self.process.wait(timeout)
        for thread in self._threads:
            thread.join(timeout)
        return code

    def stop(self, expect=0):
        """SIGTERM, then waits; the exit code must be `expect`."""
        if self.running:
            # For who was stopped when a test failed. First: later it could meet the leak
            # sanitizer at the exit, which stops threads by a SIGSTOP that SIGCONT takes back, and
            # then waits for ever for that stop.
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.exit_code()
        except subprocess.TimeoutExpired:
            where = stacks(self.pid)
            self.kill()
            raise AssertionError(f"peal ignores SIGTERM\n{self._told()}\n{where}") from None
        assert code == expect, f"peal ended with {code}\n{self._told()}"

    def kill(self):
        """kill -9, as a crash would end it."""
        if self.running:
            self.process.kill()
        self.exit_code()

    def signal(self, number):
        self.process.send_signal(number)

    def check(self):
        """Fails when the program found a bug in itself, or a sanitizer did."""
        report = REPORTS.search(self.log.text())
        assert report is None, f"peal reports a bug\n{self.log.text()[report.start():][:20000]}"

    def finish(self):
        """The end of a test: stops what runs; what ended by itself, or reported a bug, fails."""
        if self.process is not None and not self._awaited:
            self.stop()
        self.check()

    def stdout(self):
        return self._out.text()

    def _told(self):
        return "\n".join([self._out.text(), *self.log.lines[-100:]])
