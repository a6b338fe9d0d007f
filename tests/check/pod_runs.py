"""Runs pods.py, and judges what it reports.

    report = run_pods(render_overlay("overlays/single"))
    pod_problems("peal-router-0", report["peal-router-0"])
"""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

from peal import program

PODS = pathlib.Path(__file__).with_name("pods.py")
SYSTEM = PODS.parents[1] / "system"
NAMESPACES = ["unshare", "--mount", "--net", "--fork", "--kill-child"]


@functools.cache
def may_make_namespaces():
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    return subprocess.run([*NAMESPACES, "true"], capture_output=True, timeout=30).returncode == 0


def run_pods(manifests, *options, timeout=55):
    """The report of pods.py, run with these objects."""
    with tempfile.TemporaryDirectory(prefix="peal-pods-") as folder:
        objects, report = pathlib.Path(folder, "objects"), pathlib.Path(folder, "report")
        objects.write_text(json.dumps(manifests.objects))
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PEAL_")}
        told = subprocess.run(
            [*NAMESPACES, "/usr/bin/python3", PODS, objects, report, *options],
            env={**clean, "PEAL_BIN": str(program()), "PYTHONPATH": str(SYSTEM)},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert report.exists(), told.stderr
        return json.loads(report.read_text())


def pod_problems(name, one):
    """What of a pod's report is not as it has to be."""
    wanted = {
        "Uid": "\t".join(["10001"] * 4),
        "Gid": "\t".join(["10001"] * 4),
        "CapEff": "0" * 16,
        "CapBnd": "0" * 16,
        "NoNewPrivs": "1",
    }
    if one["status"] != wanted:
        yield f"{name}: runs as {one['status']}"
    if one["ports"] != one["declared"]:
        yield f"{name}: listens on {one['ports']} and declares {one['declared']}"
    for probe, status in one["probes"].items():
        if status != 200:
            yield f"{name}: {probe} got {status}"
    if not one["said"].startswith("peal: ready"):
        yield f"{name}: said {one['said']}"
    if one["writable"] != (["/var/lib/peal"] if one["kind"] == "router" else []):
        yield f"{name}: may write to {one['writable']}"
    if one["end"]["code"] != 0:
        yield f"{name}: ended with {one['end']['code']}"
    if one["kind"] == "node":
        published = one["published"]
        if published["status"] != 200 or json.loads(published["answer"])["ack"] != "stored":
            yield f"{name}: publish got {published}"
