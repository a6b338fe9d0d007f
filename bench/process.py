"""bench/process.py: a program that the driver started, and that ends with it."""

import os
import pathlib
import selectors
import signal
import subprocess
import time

DEADLINE_S = 30
STOP_S = 10


class ProcessError(Exception):
    """A program did not start, run or end as it should; the text says which and why."""


class Process:
    """Ends at the end of its with statement, together with everything that it forked.

    It gets SIGKILL should the driver be killed. Ctrl-C in a terminal does not reach it: the
    driver gets that, and then ends everything in order."""

    def __init__(self, name, command, folder):
        self.name = name
        self._stderr = pathlib.Path(folder) / f"{name}.stderr.txt"
        self._buffer = b""
        with open(self._stderr, "wb") as stderr:
            self._process = subprocess.Popen(
                # setpriv becomes the program by exec, so the pid is the program's.
                ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=folder,
                start_new_session=True,
            )
        self._end = os.pidfd_open(self._process.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    @property
    def pid(self):
        return self._process.pid

    @property
    def code(self):
        """The exit code, negative when a signal ended it; None while it runs."""
        return self._process.poll()

    def line(self, prefix, deadline_s=DEADLINE_S):
        """The next line on stdout that begins with prefix."""
        deadline = time.monotonic() + deadline_s
        while True:
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                if line.startswith(prefix.encode()):
                    return line.decode()
            if not wait_readable(self._process.stdout, deadline - time.monotonic()):
                raise ProcessError(f"{self.name}: no '{prefix}' within {deadline_s} s")
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                raise ProcessError(f"{self.name}: ended before '{prefix}'\n{self.told()}")
            self._buffer += data

    def output(self, deadline_s):
        """(exit code, stdout) of a program that ends by itself."""
        try:
            out, _ = self._process.communicate(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{self.name}: no end within {deadline_s} s") from None
        return self._process.returncode, out.decode("utf-8", "backslashreplace")

    def told(self, lines=10):
        """The end of stderr."""
        text = self._stderr.read_text(encoding="utf-8", errors="backslashreplace")
        return "\n".join(text.splitlines()[-lines:])

    def kill(self):
        """SIGKILL, as of a machine that has no memory left."""
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def end(self, stop_s=STOP_S):
        """SIGTERM, then SIGKILL for what is left of the group. Ended already: does nothing.

        Returns false when the program itself had to be killed."""
        in_time = True
        try:
            if self._process.returncode is None:
                # The group's number belongs to it for as long as the leader is not waited for.
                os.killpg(self.pid, signal.SIGTERM)
                in_time = wait_readable(self._end, stop_s)
        finally:
            if self._process.returncode is None:
                os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()
            self._process.stdout.close()
            if self._end is not None:
                os.close(self._end)
                self._end = None
        return in_time


def wait_readable(file, seconds):
    with selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_READ)
        return bool(selector.select(max(0, seconds)))
