"""bench/load.py: one run of peal-load or peal-keep, as the dictionary that it prints."""

import json
import urllib.request

import servers
from process import Process, ProcessError
from servers import API_KEY, SECRET


PREFIX = "peal_store_"


class LoadError(Exception):
    """The load could not measure; the text is the error that it named."""


def command(programs, server, subject, options):
    if subject.load.verb:
        return load_command(programs, server, subject, options)
    return keep_command(programs, server.into, server.pids.values(), options)


def keep_command(programs, into, pids, options):
    words = [programs.keep, *into]
    for pid in pids:
        words += ["--pid", pid]
    return [str(word) for word in words + dashed(options)]


def dashed(options):
    pairs = ((f"--{name.replace('_', '-')}", value) for name, value in options.items())
    return [word for pair in pairs for word in pair]


def load_command(programs, server, subject, options):
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
    return [str(word) for word in words + dashed(options)]


def run(programs, server, subject, options, folder):
    """The figures of one run; keys that are pids have become names of processes.

    LoadError, ProcessError: there are none."""
    words = command(programs, server, subject, options)
    name = "peal-load" if subject.load.verb else "peal-keep"
    with Process(name, words, folder) as process:
        code, out = process.output(subject.load.deadline_s)
        figures = read_figures(process, out, code)
    # In all scenarios a group of random traffic has one member. If the load sees it in another
    # way, its figures are about something else.
    if subject.load.verb == "random" and figures.get("expected") != figures.get("published"):
        raise LoadError("not every message had one receiver")
    return with_names(figures, {str(pid): name for name, pid in server.pids.items()})


def fill(programs, settings, stored, options, folder):
    """Puts messages into the store of the folder; the figures of that.

    LoadError, ProcessError: they are not all there."""
    config = servers.write_config(folder, "dev", settings)
    options = {**options, "stay": int(stored.killed)}
    words = keep_command(programs, ("--into", "store", "--config", config), (), options)
    with Process("peal-keep", words, folder) as process:
        if not stored.killed:
            code, out = process.output(stored.load.deadline_s)
            return read_figures(process, out, code)
        out = process.line("{", stored.load.deadline_s)
        process.kill()
        return read_figures(process, out, 0)


def read_figures(process, out, code):
    try:
        figures = json.loads(out)
    except ValueError:
        raise ProcessError(f"{process.name}: ended with {code}\n{process.told()}") from None
    if not isinstance(figures, dict) or code != 0 or "error" in figures:
        error = figures.get("error") if isinstance(figures, dict) else None
        raise LoadError(error or f"ended with {code} and names no error")
    return figures


def counters(server):
    """What the store counted until now, without the prefix of the names."""
    url = server.endpoints["http"][0].replace("tcp://", "http://") + "/metrics"
    found = {}
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except OSError as problem:
        raise LoadError(f"no counters: {problem}") from None
    for line in lines:
        name, _, value = line.partition(" ")
        if name.startswith(PREFIX) and "{" not in name:
            found[name.removeprefix(PREFIX).removesuffix("_total")] = float(value)
    return found


def with_names(value, names):
    """value with the keys of all objects in it replaced by their names."""
    if isinstance(value, dict):
        return {names.get(key, key): with_names(inner, names) for key, inner in value.items()}
    return value
