"""The manifests in k8s/, rendered as a deployer would render them, and what their rules ask of them.

    manifests = render_overlay("overlays/single")
    manifests.get("Deployment", "peal-node")["spec"]

Names are those without the hash that kustomize adds to ConfigMaps and Secrets.
"""

import base64
import functools
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import yaml

from peal import program

ROOT = pathlib.Path(__file__).resolve().parents[2]

# How many routers each of them has, which is what make-keys has to be told.
OVERLAYS = {"base": 2, "overlays/single": 1, "overlays/zones": 3}

# Debian's own, unpacked by ./dev setup where another kubectl has its place.
DEBIAN_KUBECTL = ROOT / "build/tools/kubernetes-client/usr/bin/kubectl"

WORKLOADS = ("Deployment", "StatefulSet")
HASH = re.compile(r"-[a-z0-9]{10}$")


@functools.cache
def kubectls():
    """All that this machine has: {version: path}."""
    found = {}
    for path in (DEBIAN_KUBECTL, shutil.which("kubectl")):
        if path is None or not os.access(path, os.X_OK):
            continue
        told = subprocess.run(
            [path, "version", "--client"], capture_output=True, text=True, timeout=30
        )
        version = re.search(r"v(1\.\d+)", told.stdout)
        assert version, f"{path} does not say which version it is: {told.stdout}{told.stderr}"
        found.setdefault(version[1], str(path))
    return found


@functools.cache
def copy_with_keys(overlay):
    """A copy of k8s/ with keys for the overlay. Returns its folder, which lives as long as this process."""
    folder = pathlib.Path(held_folder().name, overlay)
    shutil.copytree(ROOT / "k8s", folder, ignore=shutil.ignore_patterns("keys"))
    env = {**os.environ, "PEAL": str(program())}
    subprocess.run([folder / "make-keys", str(OVERLAYS[overlay])], env=env, check=True, timeout=60)
    return folder


@functools.cache
def held_folder():
    return tempfile.TemporaryDirectory(prefix="peal-k8s-")


def render(kubectl, folder):
    """The objects that `kubectl kustomize` makes of a folder."""
    told = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 0, f"{kubectl} kustomize {folder}: {told.stderr}"
    objects = list(yaml.safe_load_all(told.stdout))
    for thing in objects:
        # An old kustomize breaks base64 into lines, which Kubernetes does not mind.
        if thing["kind"] == "Secret":
            thing["data"] = {key: "".join(value.split()) for key, value in thing["data"].items()}
        # And it writes out what is empty.
        for key in ("annotations", "labels"):
            if thing["metadata"].get(key) == {}:
                del thing["metadata"][key]
    return objects


@functools.cache
def render_overlay(overlay, version=None):
    """The Manifests of an overlay by one kubectl, or by the first there is. Not to be changed: copy."""
    found = kubectls()
    path = found[version] if version else next(iter(found.values()))
    return Manifests(render(path, copy_with_keys(overlay) / overlay))


class Manifests:
    """What was rendered, by kind and name."""

    def __init__(self, objects):
        self.objects = objects

    def kind(self, *kinds):
        return [thing for thing in self.objects if thing["kind"] in kinds]

    def find(self, kind, name):
        """The one of that name, with or without its hash; None when there is none."""
        for thing in self.kind(kind):
            if name in (thing["metadata"]["name"], plain_name(thing)):
                return thing
        return None

    def get(self, kind, name):
        thing = self.find(kind, name)
        assert thing is not None, f"there is no {kind} {name}"
        return thing

    def workloads(self):
        return self.kind(*WORKLOADS)

    def pods(self, labels):
        """The workloads whose pods have all these labels."""
        return [
            thing
            for thing in self.workloads()
            if labels.items() <= template(thing)["metadata"]["labels"].items()
        ]

    def mounted(self, workload, container, path):
        """What a container finds at path: (volume, name of the file in it), or (None, "")."""
        volumes = {volume["name"]: volume for volume in all_volumes(workload)}
        for mount in container.get("volumeMounts", []):
            rest = pathlib.PurePosixPath(path)
            if rest.is_relative_to(mount["mountPath"]):
                return volumes[mount["name"]], str(rest.relative_to(mount["mountPath"]))
        return None, ""

    def config(self, workload):
        """The text of the configuration file that the container is started with."""
        container = main_container(workload)
        path = container["args"][container["args"].index("-c") + 1]
        volume, name = self.mounted(workload, container, path)
        assert volume is not None and "configMap" in volume, f"{path} is not from a ConfigMap"
        return self.get("ConfigMap", volume["configMap"]["name"])["data"][name]

    def environment(self, workload):
        """What a container's envFrom gives it."""
        env = {}
        for source in main_container(workload).get("envFrom", []):
            env.update(self.get("ConfigMap", source["configMapRef"]["name"])["data"])
        return env


def plain_name(thing):
    name = thing["metadata"]["name"]
    return HASH.sub("", name) if thing["kind"] in ("ConfigMap", "Secret") else name


def template(workload):
    return workload["spec"]["template"]


def pod(workload):
    return template(workload)["spec"]


def main_container(workload):
    return pod(workload)["containers"][0]


def containers(workload):
    return pod(workload).get("initContainers", []) + pod(workload)["containers"]


def all_volumes(workload):
    """Volumes of the pod, and those that a StatefulSet claims for it."""
    claimed = workload["spec"].get("volumeClaimTemplates", [])
    return pod(workload).get("volumes", []) + [
        {"name": claim["metadata"]["name"], "claim": claim["spec"]} for claim in claimed
    ]


def container_ports(workload):
    """{name: number} of what the main container says that it listens on."""
    return {port["name"]: port["containerPort"] for port in main_container(workload)["ports"]}


def secret_data(secret):
    return {key: base64.b64decode(value) for key, value in secret["data"].items()}
