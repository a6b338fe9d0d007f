"""k8s/make-keys: what it makes, and that it never makes anew what is there."""

import os
import re
import subprocess

import pytest
import yaml
from manifests import ROOT
from peal import program


def make_keys(folder, *arguments):
    env = {**os.environ, "PEAL": str(program())}
    return subprocess.run(
        [ROOT / "k8s/make-keys", *arguments], env=env, capture_output=True, text=True, timeout=60
    )


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_secrets_are_long_random_and_for_their_owner_alone(tmp_path):
    folder = tmp_path / "keys"
    assert make_keys(folder, "2", folder).returncode == 0
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
    files = contents(folder)
    # 32 bytes in base64, without a line break that would be taken for a part of it.
    assert re.fullmatch(r"[A-Za-z0-9+/]{43}=", files["api.key"])
    assert re.fullmatch(r"[A-Za-z0-9+/]{43}=", files["token.secret"])
    assert len({files[name] for name in files if name.endswith(".key")}) == 5


def test_a_second_run_with_more_routers_only_adds_theirs(tmp_path):
    folder = tmp_path / "keys"
    assert make_keys(folder, "1", folder).returncode == 0
    before = contents(folder)
    assert make_keys(folder, "3", folder).returncode == 0
    after = contents(folder)
    assert after.keys() - before.keys() == {"peal-router-1.key", "peal-router-2.key"}
    for name in before.keys() - {"peers", "kustomization.yaml"}:
        assert after[name] == before[name]
    assert after["peers"].count("\n") == 5
    assert before["peers"].splitlines()[:2] == after["peers"].splitlines()[:2]


def test_public_halves_are_of_the_pairs_in_their_order(tmp_path):
    folder = tmp_path / "keys"
    assert make_keys(folder, "2", folder).returncode == 0
    files = contents(folder)
    made = yaml.safe_load(files["kustomization.yaml"])
    literals = next(one["literals"] for one in made["configMapGenerator"] if "literals" in one)
    publics = [
        re.search(r"^public\s+(\S+)$", files[f"peal-router-{i}.key"], re.M)[1] for i in range(2)
    ]
    assert literals == [f"PEAL_CLUSTER__ROUTERS__{i}__KEY={publics[i]}" for i in range(2)]
    (own,) = next(one for one in made["configMapGenerator"] if one["name"] == "peal-relay-keys")["literals"]
    public = re.search(r"^public\s+(\S+)$", files["relay.key"], re.M)[1]
    assert own == f"PEAL_CLUSTER__VIA__0__KEY={public}"
    assert f"{public} node relays\n" in files["peers"]
    for i, public in enumerate(publics):
        assert f"{public} node peal-router-{i}\n" in files["peers"]


def test_publishers_of_ones_own_are_among_the_peers(tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir()
    line = "k" * 40 + " publisher shop\n"
    (folder / "publishers").write_text(line)
    assert make_keys(folder, "1", folder).returncode == 0
    assert (folder / "peers").read_text().endswith(line)


@pytest.mark.parametrize("arguments", [[], ["0"], ["x"], ["-1"], ["1", "a", "b"]])
def test_wrong_arguments_make_nothing(tmp_path, arguments):
    told = make_keys(tmp_path / "keys", *arguments)
    assert told.returncode == 64
    assert told.stderr.startswith("usage: ")
    assert not (tmp_path / "keys").exists()


def test_without_a_program_nothing_half_is_left(tmp_path):
    folder = tmp_path / "keys"
    told = subprocess.run(
        [ROOT / "k8s/make-keys", "1", folder], env={**os.environ, "PEAL": "/bin/false"},
        capture_output=True, text=True, timeout=60,
    )
    assert told.returncode != 0
    assert not (folder / "kustomization.yaml").exists()
    assert not list(folder.glob("*.new"))
