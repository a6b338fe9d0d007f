"""What the manifests in k8s/ use already and the program does not know yet.

These, and only these, are left out before the program is asked. As soon as it knows one of them,
manifest_program_test.py fails until that one has left its list; when both are empty, this file, the
stand-in for `peal keygen` in it and all calls of it can go.
"""

import functools
import os
import pathlib
import re
import subprocess
import tempfile

import yaml

from peal import program

PENDING_KEYS = {
    "bus.key_file",
    "bus.peers_file",
    "cluster.routers.*.key",
}
PENDING_VERBS = {"keygen"}

# What `peal keygen FILE` makes: a pair of CURVE keys that only their owner can read.
STAND_IN = """#!/usr/bin/python3
import os, sys, zmq
public, secret = zmq.curve_keypair()
descriptor = os.open(sys.argv[2], os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
with open(descriptor, "w") as file:
    file.write(f"public {public.decode()}\\nsecret {secret.decode()}\\n")
"""


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


def unknown_keys():
    return {key for key in PENDING_KEYS if not knows_key(key)}


def key_maker(folder):
    """The path of a program that makes a pair of keys for `keygen FILE`."""
    if knows_verb("keygen"):
        return program()
    path = pathlib.Path(folder, "stand-in")
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return path


def without(config, keys, pattern=""):
    """A copy of a configuration without these keys; sections that are empty then go too."""
    if isinstance(config, dict):
        kept = {}
        for key, value in config.items():
            below = f"{pattern}.{key}" if pattern else str(key)
            rest = without(value, keys, below)
            if below not in keys and rest not in ({}, []):
                kept[key] = rest
        return kept
    if isinstance(config, list):
        if f"{pattern}.*" in keys:
            return []
        return [rest for value in config if (rest := without(value, keys, f"{pattern}.*")) != {}]
    return config


def strip(manifests):
    """Takes what the program does not know yet out of every ConfigMap of the manifests."""
    keys = unknown_keys()
    for thing in manifests.kind("ConfigMap"):
        data = thing["data"]
        for key in list(data):
            if key.startswith("PEAL_") and variable_pattern(key) in keys:
                del data[key]
            elif key.endswith(".yaml") and leaves(yaml.safe_load(data[key])) & keys:
                data[key] = yaml.safe_dump(without(yaml.safe_load(data[key]), keys))


def add_stripped(config, written):
    """Puts what strip took out of a written configuration into the one that was printed without it."""
    keys = unknown_keys()

    def add(printed, given, pattern):
        for key, value in given.items() if isinstance(given, dict) else enumerate(given):
            below = f"{pattern}.{key if isinstance(given, dict) else '*'}".lstrip(".")
            if not leaves(value, below) & keys:
                continue
            if isinstance(printed, dict) and key not in printed:
                printed[key] = value
            elif isinstance(value, (dict, list)):
                add(printed[key], value, below)

    add(config, written, "")
    return config
