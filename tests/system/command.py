"""tests/system/command.py: verbs of the command line that end by themselves or are told to."""

import json
import os
import signal
import subprocess

from peal import DEADLINE_S, Lines, program


def run(*args, input=None, env=None, cwd=None):
    """Runs `peal ARGS` to its end; the result has returncode, stdout and stderr as text."""
    return subprocess.run(
        [str(program()), *map(str, args)],
        input=input,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=DEADLINE_S,
    )


class Follow:
    """A verb that prints JSON lines until it is interrupted, such as `peal sub`."""

    def __init__(self, directory, *args, env=None):
        directory.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [str(program()), *map(str, args)],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._out = Lines(directory / "stdout.txt")
        self._err = Lines(directory / "stderr.txt")
        self._threads = [self._out.read(self.process.stdout), self._err.read(self.process.stderr)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        for thread in self._threads:
            thread.join(DEADLINE_S)

    def line(self, index, timeout=DEADLINE_S):
        """Waits for line `index` and decodes it."""
        self._out.wait(lambda _: True, index, timeout)
        return json.loads(self._out.lines[index])

    def interrupt(self):
        """SIGINT, as Ctrl-C sends it; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE_S)
