"""Which settings and verbs the program knows, and which settings a configuration has.

    for pattern in leaves(config): assert knows_key(pattern)
"""

import functools
import os
import pathlib
import re
import subprocess
import tempfile

import yaml

from peal import program


def leaves(config, pattern=""):
    """The keys of a configuration, * for an index: {"api.listen", "cluster.routers.*.pull", ...}."""
    if isinstance(config, dict):
        inner = [(f"{pattern}.{key}" if pattern else str(key), value) for key, value in config.items()]
    elif isinstance(config, list):
        inner = [(f"{pattern}.*", value) for value in config]
    else:
        return {pattern}
    return set().union(*(leaves(value, key) for key, value in inner))


def variable_pattern(name):
    """cluster.routers.*.key of PEAL_CLUSTER__ROUTERS__0__KEY."""
    words = name.removeprefix("PEAL_").lower().split("__")
    return ".".join("*" if word.isdigit() else word for word in words)


@functools.cache
def knows_key(pattern):
    """Whether the program knows a key such as cluster.routers.*.pull; its value is another matter."""
    config = "x"
    for word in reversed(pattern.split(".")):
        config = [config] if word == "*" else {word: config}
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "peal.yaml")
        file.write_text(yaml.safe_dump(config))
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PEAL_")}
        told = subprocess.run(
            [program(), "check-config", file], capture_output=True, text=True, env=clean, timeout=30
        )
    return not re.search(r"unknown key", told.stdout + told.stderr)


@functools.cache
def knows_verb(verb):
    told = subprocess.run([program(), verb, "--help"], capture_output=True, timeout=30)
    return told.returncode == 0
