"""bench/load.py: one run of peal-load against one server, as the dictionary that it prints."""

import json

from process import Process, ProcessError
from servers import API_KEY, SECRET

# The longest load is a few seconds; connecting, warming up and draining come on top.
DEADLINE_S = 150


class LoadError(Exception):
    """peal-load could not measure; the text is the error that it named."""


def command(programs, server, subject, options):
    """peal-load VERB --option value ..., from the options of the load and what the server is."""
    words = [programs.load, subject.load.verb, "--target", subject.target]
    for address in server.addresses:
        words += ["--address", address]
    for pid in server.pids.values():
        words += ["--pid", pid]
    if subject.door in server.endpoints:
        words += ["--door", subject.door]
        for endpoint in server.endpoints[subject.door]:
            words += ["--endpoint", endpoint]
    if subject.door in ("push", "rpc"):
        words += server.secure
    if subject.door == "http":
        words += ["--key", API_KEY]
    if subject.path:
        words += ["--path", subject.path]
    if subject.token:
        words += ["--token-secret", SECRET]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", value]
    return [str(word) for word in words]


def run(programs, server, subject, options, folder):
    """The figures of one run; keys that are pids have become names of processes.

    LoadError, ProcessError: there are none."""
    with Process("peal-load", command(programs, server, subject, options), folder) as process:
        code, out = process.output(DEADLINE_S)
        try:
            figures = json.loads(out)
        except ValueError:
            raise ProcessError(f"peal-load: ended with {code}\n{process.told()}") from None
    if not isinstance(figures, dict) or code != 0 or "error" in figures:
        error = figures.get("error") if isinstance(figures, dict) else None
        raise LoadError(error or f"ended with {code} and names no error")
    # In all scenarios a group of random traffic has one member. If the load sees it in another
    # way, its figures are about something else.
    if subject.load.verb == "random" and figures.get("expected") != figures.get("published"):
        raise LoadError("not every message had one receiver")
    return with_names(figures, {str(pid): name for name, pid in server.pids.items()})


def with_names(value, names):
    """value with the keys of all objects in it replaced by their names."""
    if isinstance(value, dict):
        return {names.get(key, key): with_names(inner, names) for key, inner in value.items()}
    return value
