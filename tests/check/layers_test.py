"""The layer check, fed with small trees."""

import pathlib
import subprocess
import sys

import layers
import pytest


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    "name, include",
    [
        ("base/err.c", '"proto/msg.h"'),
        ("proto/wire.c", '"node/conn.h"'),
        ("storage/store.c", '"router/shard.h"'),
        ("router/shard.c", '"storage/db.h"'),
        ("router/shard.c", '"node/bus.h"'),
        ("node/bus.c", '"storage/store.h"'),
        ("node/dialect/raw.c", '"router/shard.h"'),
        ("node/bus.c", '"cli/dev.h"'),
        ("clients/c/peal.c", '"proto/wire.h"'),
        ("base/log.h", "<proto/msg.h>"),
        ("cli/main.c", '"tests/unit/unit.h"'),
        ("base/log.c", '"log.h"'),
        ("node/worker.c", "<libwebsockets.h>"),
        ("node/ws.h", "<libwebsockets.h>"),
        ("router/shard.c", "<zmq.h>"),
        ("storage/store.c", "<lmdb.h>"),
        ("proto/msg.c", "<msgpack.h>"),
        ("proto/msg.c", "<msgpack/pack.h>"),
        ("node/http.c", "<jansson.h>"),
        ("proto/json.c", "<cjose/cjose.h>"),
        ("node/conn.c", "<uv.h>"),
        ("base/log.c", "<yaml.h>"),
        ("node/http.c", "<microhttpd.h>"),
    ],
)
def test_forbidden_include_is_named_with_its_line(tmp_path, name, include):
    tree(tmp_path, {name: f"/* design */\n#include {include}\n"})
    found = list(layers.problems(tmp_path))
    assert len(found) == 1
    assert found[0].startswith(f"{name}:2: {include[1:-1]}: ")


@pytest.mark.parametrize(
    "name, include",
    [
        ("base/err.c", '"base/err.h"'),
        ("proto/msg.c", '"base/err.h"'),
        ("router/shard.c", '"storage/store.h"'),
        ("node/dialect/raw.c", '"node/conn.h"'),
        ("clients/c/peal.c", '"base/err.h"'),
        ("clients/c/peal.c", "<zmq.h>"),
        ("cli/dev.c", '"router/shard.h"'),
        ("cli/inbox.c", "<jansson.h>"),
        ("node/http.c", "<libwebsockets.h>"),
        ("node/worker.c", "<uv.h>"),
        ("router/relay.c", "<zmq.h>"),
        ("storage/db.c", "<lmdb.h>"),
        ("base/config_yaml.c", "<yaml.h>"),
        ("base/log.c", "<sys/socket.h>"),
        ("base/log.c", "<stdio.h>"),
    ],
)
def test_allowed_include_passes(tmp_path, name, include):
    tree(tmp_path, {name: f"#include {include}\n"})
    assert list(layers.problems(tmp_path)) == []


def test_include_in_a_comment_is_no_include(tmp_path):
    tree(tmp_path, {"base/err.c": '/*\n#include "node/ws.h"\n*/\n// x\n#  include "node/bus.h"\n'})
    only = "base/err.c:5: node/bus.h: base/ must not include node/"
    assert list(layers.problems(tmp_path)) == [only]


def test_program_fails_on_a_bad_tree_and_passes_on_a_good_one(tmp_path):
    program = str(pathlib.Path(layers.__file__))
    good = tree(tmp_path / "good", {"base/err.c": '#include "base/err.h"\n'})
    bad = tree(tmp_path / "bad", {"base/err.c": '#include "cli/main.h"\n'})
    run = [sys.executable, program]
    assert subprocess.run(run + [good], capture_output=True, check=False).returncode == 0
    result = subprocess.run(run + [bad], capture_output=True, check=False, text=True)
    assert result.returncode == 1
    assert result.stdout == "base/err.c:1: cli/main.h: base/ must not include cli/\n"
