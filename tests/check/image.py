"""Tries an image that ./dev image built: image.py FOLDER CONFIG, its root file system and what
`buildah inspect` says of it. Prints what was seen; fails with a sentence for each thing that is wrong."""

import json
import pathlib
import sys

from manifests import pod, render_overlay
from pod_runs import pod_problems, run_pods

# What an image that only runs the program has no use for.
NEEDLESS = ["gcc", "cc", "make", "cmake", "ninja", "git", "curl", "wget", "ssh", "nc", "gdb"]


def image_problems(root, config, manifests):
    """What of the image itself is not as the manifests expect it."""
    said = config["OCIv1"]["config"]
    for workload in manifests.workloads():
        context = pod(workload)["securityContext"]
        if said.get("User") != f"{context['runAsUser']}:{context['runAsGroup']}":
            yield f"the image's user is {said.get('User')}, the pods' is {context['runAsUser']}"
    if said.get("Entrypoint") != ["/usr/local/bin/peal"]:
        yield f"the entry point is {said.get('Entrypoint')}"
    for name in NEEDLESS:
        for folder in ("usr/bin", "usr/local/bin"):
            if (root / folder / name).exists():
                yield f"{name} is in the image"
    if any((root / "usr/include").glob("*.h")) or any((root / "src").glob("*")):
        yield "there are sources in the image"
    for path in root.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        if path.stat().st_mode & 0o002:
            yield f"{path.relative_to(root)} may be written by anybody"


def main():
    root, config = pathlib.Path(sys.argv[1]), json.loads(pathlib.Path(sys.argv[2]).read_text())
    manifests = render_overlay("overlays/single")
    wrong = list(image_problems(root, config, manifests))
    size = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file())
    print(f"image: user {config['OCIv1']['config']['User']}, {size >> 20} MiB")
    report = run_pods(manifests, "--root", str(root), "--pre-stop", timeout=180)
    if "error" in report:
        wrong.append(report.pop("error"))
    for name, one in report.items():
        print(f"{name}: {one['said'].splitlines()[0]}")
        print(f"{name}: listens on {one['ports']}, probes {one['probes']}")
        print(f"{name}: uid {one['status']['Uid'].split()[0]}, capabilities {one['status']['CapBnd']}, "
              f"may write to {one['writable']}")
        print(f"{name}: preStop and SIGTERM: exit {one['end']['code']} after {one['end']['seconds']} s")
        if "published" in one:
            print(f"{name}: publish {one['published']['status']} {one['published']['answer'].strip()}")
        wrong += pod_problems(name, one)
    for sentence in wrong:
        print(f"wrong: {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
