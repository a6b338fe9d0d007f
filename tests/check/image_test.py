"""k8s/Dockerfile against the program and the manifests. `./dev image` builds it and tries it."""

import functools
import pathlib
import re
import subprocess

import pytest
from image import image_problems
from manifest_program_test import needs_namespaces
from manifests import ROOT, main_container, pod, render_overlay
from peal import program
from pod_runs import run_pods

DOCKERFILE = (ROOT / "k8s/Dockerfile").read_text()

# What is in the image besides what the program is linked with.
UNLINKED = {
    "ca-certificates",  # to call backends over HTTPS
    "libwebsockets-evlib-uv",  # loaded while running
}
# In every Debian; and what only a program built for tests is linked with.
ASSUMED = {"libc6", "libgcc-s1", "libasan8", "libubsan1", "libtsan2"}


def stages(text):
    """The instructions of each stage: [[(word, rest), ...], ...]; the first has what is before FROM."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.M))
    found = [[]]
    for line in joined.splitlines():
        if not line.strip():
            continue
        word, rest = line.split(None, 1)
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def values(stage, word):
    return [rest for name, rest in stage if name == word]


def packages(text):
    """What the last stage installs."""
    (run,) = values(stages(text)[-1], "RUN")
    (words,) = re.findall(r"apt-get install ([^&]*)", run)
    return {word for word in words.split() if not word.startswith("-")}


def owners(files):
    """The packages of some shared objects."""
    patterns = [f"*-linux-gnu*/{name}" for name in sorted(files)]
    told = subprocess.run(["dpkg", "-S", *patterns], capture_output=True, text=True)
    return {line.split(":")[0] for line in told.stdout.splitlines()}


@functools.cache
def linked():
    """The packages that the program of the image is linked with, not what those need in turn."""
    release = ROOT / "build/release/peal"
    told = subprocess.run(["readelf", "-d", release], capture_output=True, text=True, check=True)
    return owners(re.findall(r"\(NEEDED\).*\[(.*)\]", told.stdout))


def folders():
    """Those of CMakeLists.txt that are there and that the program is made of."""
    (items,) = re.findall(r"foreach\(folder IN ITEMS ([^)]*)\)", (ROOT / "CMakeLists.txt").read_text())
    return {item.split("/")[0] for item in items.split() if (ROOT / item).is_dir()} - {"bench"}


def problems(text, workloads):
    """What is wrong with a Dockerfile."""
    before, build, last = stages(text)
    if values(before, "ARG") != ["BASE=debian:12-slim"]:
        yield "does not start from Debian 12"
    copied = {rest.split()[0] for rest in values(build, "COPY")}
    for folder in sorted(folders() - copied):
        yield f"{folder} is not copied"
    if copied & {".", "k8s", "tests"}:
        yield "copies more than the program is made of"
    listed = packages(text)
    for name in sorted((linked() - ASSUMED) ^ (listed - UNLINKED)):
        yield f"{name} is either linked or installed, not both"
    for name in sorted(UNLINKED - listed):
        yield f"{name} is not installed"
    if any(name.endswith("-dev") for name in listed) or "--no-install-recommends" not in text:
        yield "installs more than what runs"
    contexts = [pod(one)["securityContext"] for one in workloads]
    users = {f"{context['runAsUser']}:{context['runAsGroup']}" for context in contexts}
    if values(last, "USER") != sorted(users):
        yield f"runs as {values(last, 'USER')}"
    if values(last, "ENTRYPOINT") != ['["/usr/local/bin/peal"]'] or any(
        "command" in main_container(one) for one in workloads
    ):
        yield "the program is not the entry point"
    if [rest for rest in values(last, "COPY") if not rest.startswith("--from=build ")]:
        yield "copies into the image what was not built"
    if re.search(r"^(ARG|ENV) .*(SECRET|KEY|TOKEN|PASSWORD)", text, re.M | re.I):
        yield "takes a secret"


def test_the_dockerfile_fits_program_and_manifests():
    assert list(problems(DOCKERFILE, render_overlay("overlays/zones").workloads())) == []


@pytest.mark.parametrize("old, new, expected", [
    ("debian:12-slim", "debian:13-slim", "Debian 12"),
    ("COPY router router\n", "", "router is not copied"),
    ("COPY proto proto", "COPY . .", "copies more"),
    ("libzmq5", "", "libzmq5 is either"),
    ("libzmq5", "libzmq5 libpq5", "libpq5 is either"),
    ("libzmq5", "libzmq3-dev", "more than what runs"),
    ("libwebsockets-evlib-uv", "", "libwebsockets-evlib-uv is not installed"),
    ("--no-install-recommends ", "", "more than what runs"),
    ("USER 10001:10001", "USER 0:0", "runs as ['0:0']"),
    ("USER 10001:10001\n", "", "runs as []"),
    ('["/usr/local/bin/peal"]', '["/bin/sh"]', "not the entry point"),
    ("COPY --from=build ", "COPY ", "what was not built"),
    ("WORKDIR /\n", "WORKDIR /\nENV API_KEY=x\n", "takes a secret"),
])
def test_each_fault_of_the_dockerfile_is_told(old, new, expected):
    assert old in DOCKERFILE
    found = list(problems(DOCKERFILE.replace(old, new), render_overlay("base").workloads()))
    assert any(expected in sentence for sentence in found), found


GOOD = {"User": "10001:10001", "Entrypoint": ["/usr/local/bin/peal"]}


@pytest.mark.parametrize("said, file, mode, expected", [
    (GOOD, "usr/bin/true", 0o755, None),
    ({**GOOD, "User": "0:0"}, "usr/bin/true", 0o755, "the image's user is 0:0"),
    ({**GOOD, "User": ""}, "usr/bin/true", 0o755, "the image's user is "),
    ({**GOOD, "Entrypoint": ["/bin/sh"]}, "usr/bin/true", 0o755, "the entry point is"),
    (GOOD, "usr/bin/gcc", 0o755, "gcc is in the image"),
    (GOOD, "src/peal.c", 0o644, "sources in the image"),
    (GOOD, "etc/passwd", 0o666, "etc/passwd may be written by anybody"),
])
def test_each_fault_of_an_image_is_told(tmp_path, said, file, mode, expected):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    (tmp_path / file).chmod(mode)
    config = {"OCIv1": {"config": said}}
    found = list(image_problems(tmp_path, config, render_overlay("overlays/single")))
    assert (found == []) if expected is None else any(expected in sentence for sentence in found)


@needs_namespaces
def test_what_the_program_loads_while_running_is_in_the_image():
    report = run_pods(render_overlay("overlays/single"))
    assert "error" not in report, report["error"]
    told = subprocess.run(["ldd", program()], capture_output=True, text=True, check=True).stdout
    linked_paths = re.findall(r"/\S+\.so\S*", told)
    at_start = {pathlib.Path(path).resolve().name for path in linked_paths}
    loaded = {name for one in report.values() for name in one["libraries"]}
    own = owners(loaded - at_start) - ASSUMED
    assert own == {"libwebsockets-evlib-uv"}
    assert own <= packages(DOCKERFILE)
