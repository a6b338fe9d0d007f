"""A kubelet of a few lines: starts the pods of rendered manifests in namespaces of this machine.

    unshare --mount --net python3 pods.py OBJECTS REPORT [--root FOLDER] [--check] [--pre-stop]

OBJECTS is JSON, what `kubectl kustomize` made. A StatefulSet gets all its pods, a Deployment one, each
with network and host name of its own, the names of the Services, volumes with the owners and modes
that Kubernetes gives them, the user and the read-only root file system of its securityContext, and no
capabilities. Its init containers run first. What was seen goes to REPORT as JSON, also when something
went wrong.

The programs are those of FOLDER, the root file system of an image; otherwise this machine's, with
$PEAL_BIN in place of the image's entry point.

--check asks check-config and print-config in every pod and starts nothing. Otherwise all pods are
started, asked by their probes, told to publish one message, and stopped by SIGTERM, nodes first.
"""

import argparse
import base64
import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

from manifests import Manifests, all_volumes, container_ports, main_container, pod

READY_S = 40
STEP_S = 0.05

CLONE_NEWUTS, CLONE_NEWNET = 0x04000000, 0x40000000
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def tool(*command):
    subprocess.run([str(word) for word in command], check=True, timeout=30)


@contextlib.contextmanager
def inside(net):
    """In another network, for the calling thread."""
    with open("/proc/self/ns/net") as here, open(net) as there:
        call("setns", there.fileno(), CLONE_NEWNET)
        try:
            yield
        finally:
            call("setns", here.fileno(), CLONE_NEWNET)


class Pod:
    """One pod of a workload. Its volumes and root file systems are below folder."""

    def __init__(self, manifests, workload, ordinal, index, folder, image):
        self.manifests = manifests
        self.workload = workload
        self.kind = main_container(workload)["args"][0]
        suffix = ordinal if workload["kind"] == "StatefulSet" else "5d4f8c7b9-x2x4z"
        self.name = f"{workload['metadata']['name']}-{suffix}"
        self.address = f"10.77.0.{index + 2}"
        self.folder = folder / self.name
        self.image = image
        context = pod(workload)["securityContext"]
        self.uid, self.gid = context["runAsUser"], context["runAsGroup"]
        self.group = context["fsGroup"]
        self.holder = None  # keeps the network and the host name
        self.process = None
        self.hosts = {}
        self.make_volumes()

    # -- what Kubernetes mounts

    def make_volumes(self):
        for volume in all_volumes(self.workload):
            path = self.folder / "volumes" / volume["name"]
            path.mkdir(parents=True)
            os.chown(path, 0, self.group)
            path.chmod(0o2755)
            if "configMap" in volume:
                thing = self.manifests.get("ConfigMap", volume["configMap"]["name"])
                files = {key: text.encode() for key, text in thing["data"].items()}
                mode = volume["configMap"].get("defaultMode", 0o644)
            elif "secret" in volume:
                thing = self.manifests.get("Secret", volume["secret"]["secretName"])
                files = {key: base64.b64decode(text) for key, text in thing["data"].items()}
                mode = volume["secret"].get("defaultMode", 0o644)
            else:
                path.chmod(0o2777 if "emptyDir" in volume else 0o2775)
                continue
            for key, data in files.items():
                # As Kubernetes does it: links, so that all files change at once.
                (path / "..data").mkdir(exist_ok=True)
                file = path / "..data" / key
                file.write_bytes(data)
                file.chmod(mode | 0o440)
                os.chown(file, 0, self.group)
                (path / key).symlink_to(f"..data/{key}")

    def make_root(self, container):
        root = self.folder / container["name"]
        root.mkdir()
        if self.image is None:
            tool("mount", "-t", "tmpfs", "tmpfs", root)
            for name in ("usr", "dev", "proc", "etc", "run", "var", "tmp"):
                (root / name).mkdir()
            tool("mount", "--bind", "/usr", root / "usr")
            for name in ("bin", "sbin", "lib", "lib64"):
                (root / name).symlink_to(f"usr/{name}")
            (root / "peal").write_bytes(pathlib.Path(os.environ["PEAL_BIN"]).read_bytes())
            (root / "peal").chmod(0o755)
        else:
            layers = self.folder / f"{container['name']}.layers"
            layers.mkdir()
            tool("mount", "-t", "tmpfs", "tmpfs", layers)
            for name in ("upper", "work"):
                (layers / name).mkdir()
            options = f"lowerdir={self.image},upperdir={layers}/upper,workdir={layers}/work"
            tool("mount", "-t", "overlay", "overlay", "-o", options, root)
        names = {"127.0.0.1": ["localhost"], self.address: [self.name], **self.hosts}
        lines = [f"{address} {' '.join(known)}\n" for address, known in names.items()]
        (root / "etc/hosts").write_text("".join(lines))
        tool("mount", "--bind", "/dev", root / "dev")
        tool("mount", "-t", "proc", "proc", root / "proc")
        places = [root / mount["mountPath"].lstrip("/") for mount in container["volumeMounts"]]
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
        tool("mount", "-o", "remount,ro", root)
        for mount, place in zip(container["volumeMounts"], places):
            tool("mount", "--bind", self.folder / "volumes" / mount["name"], place)
            if mount.get("readOnly"):
                tool("mount", "-o", "remount,bind,ro", place)
        return root

    # -- what runs in it

    def start_network(self):
        """A network of its own, joined to the others' by a cable to the bridge."""
        # Popen returns when unshare has begun; a line comes when it has unshared.
        command = ["unshare", "--net", "--uts", "sh", "-c", "echo; exec sleep infinity"]
        self.holder = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0)
        with self.holder.stdout as line:
            if not select.select([line], [], [], READY_S)[0] or line.read(1) != b"\n":
                raise RuntimeError(f"{self.name}: no network within {READY_S} s")
        cable = "v" + self.address.rsplit(".", 1)[1]
        tool("ip", "link", "add", cable, "type", "veth", "peer", "eth0", "netns", self.holder.pid)
        tool("ip", "link", "set", cable, "master", "bridge0", "up")
        with inside(self.net):
            tool("ip", "link", "set", "lo", "up")
            tool("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
            tool("ip", "link", "set", "eth0", "up")

    @property
    def net(self):
        return f"/proc/{self.holder.pid}/ns/net"

    def enter(self, root):
        """What happens in a new process before the program is there."""

        def run():
            if self.holder is not None:
                for kind, flag in (("net", CLONE_NEWNET), ("uts", CLONE_NEWUTS)):
                    with open(f"/proc/{self.holder.pid}/ns/{kind}") as namespace:
                        call("setns", namespace.fileno(), flag)
                socket.sethostname(self.name)
            os.chroot(root)
            os.chdir("/")
            # Not even a set-uid program could get one back.
            with open("/proc/sys/kernel/cap_last_cap") as last:
                for capability in range(int(last.read()) + 1):
                    call("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
            os.setgroups([self.group])
            os.setresgid(self.gid, self.gid, self.gid)
            # From root to another user: the capabilities go with it.
            os.setresuid(self.uid, self.uid, self.uid)
            call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)

        return run

    def environment(self, container):
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        for source in container.get("envFrom", []):
            env.update(self.manifests.get("ConfigMap", source["configMapRef"]["name"])["data"])
        for variable in container.get("env", []):
            fields = {"metadata.name": self.name}
            env[variable["name"]] = fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        return env

    def command(self, container, args=None):
        env = self.environment(container)
        words = container.get("command") or [
            "/peal" if self.image is None else "/usr/local/bin/peal"
        ]
        words = words + (container.get("args", []) if args is None else args)
        return [re.sub(r"\$\((\w+)\)", lambda name: env[name[1]], word) for word in words]

    def run_inits(self):
        for container in pod(self.workload).get("initContainers", []):
            self.run(container, self.command(container), self.make_root(container))

    def run(self, container, command, root, check=True):
        told = subprocess.run(
            command,
            env=self.environment(container),
            preexec_fn=self.enter(root),
            capture_output=True,
            text=True,
            timeout=READY_S,
        )
        if check and told.returncode != 0:
            raise RuntimeError(f"{self.name}: {command}: {told.returncode}: {told.stderr}")
        return told

    def check(self):
        """What the program says of the configuration that it would be started with."""
        self.run_inits()
        container = main_container(self.workload)
        root = self.make_root(container)
        path = container["args"][container["args"].index("-c") + 1]
        told = self.run(container, self.command(container, ["check-config", path]), root, False)
        shown = self.run(container, self.command(container, ["print-config", "-c", path]), root, False)
        return {"code": told.returncode, "said": told.stdout + told.stderr, "config": shown.stdout}

    def start(self):
        self.run_inits()
        container = main_container(self.workload)
        self.root = self.make_root(container)
        self.out = open(self.folder / "stdout.txt", "w+")
        self.err = open(self.folder / "stderr.txt", "w+")
        self.process = subprocess.Popen(
            self.command(container),
            env=self.environment(container),
            preexec_fn=self.enter(self.root),
            stdin=subprocess.DEVNULL,
            stdout=self.out,
            stderr=self.err,
        )

    def said(self, stream):
        return pathlib.Path(self.folder / stream).read_text(errors="backslashreplace")

    def ask(self, method, port, path, body=None, headers=None):
        """(status, text); (0, why) when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            with inside(self.net):
                connection.connect()
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()

    def probe(self, name):
        ask = main_container(self.workload)[name]["httpGet"]
        return self.ask("GET", container_ports(self.workload)[ask["port"]], ask["path"])[0]

    def ready(self):
        """/readyz may be a moment ahead of the line that is printed."""
        return self.probe("readinessProbe") == 200 and self.said("stdout.txt").startswith("peal: ready")

    def listening(self):
        """The TCP ports that anybody in its network listens on, other than on loopback alone."""
        ports = set()
        for file in ("tcp", "tcp6"):
            lines = pathlib.Path(f"/proc/{self.process.pid}/net/{file}").read_text().splitlines()
            for line in lines[1:]:
                local, state = line.split()[1], line.split()[3]
                address, port = local.split(":")
                if state == "0A" and address != "0100007F":
                    ports.add(int(port, 16))
        return sorted(ports)

    def status(self):
        """What the kernel says of the process: who it is and what it may."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        return {key: fields[key] for key in ("Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs")}

    def libraries(self):
        """The shared objects that it has in memory, those it loaded itself among them."""
        lines = pathlib.Path(f"/proc/{self.process.pid}/maps").read_text().splitlines()
        paths = {line.split(maxsplit=5)[5] for line in lines if len(line.split()) > 5}
        return sorted({path.rsplit("/", 1)[1] for path in paths if ".so" in path})

    def writable(self):
        """Where the program could write: of its root and of everything that is mounted there."""
        container = main_container(self.workload)
        found = []
        for path in ["/", "/etc", "/tmp", *(one["mountPath"] for one in container["volumeMounts"])]:
            if self.run(container, ["touch", f"{path}/probe"], self.root, False).returncode == 0:
                found.append(path)
                self.run(container, ["rm", f"{path}/probe"], self.root)
        return found

    def stop(self, pre_stop):
        began = time.monotonic()
        container = main_container(self.workload)
        hook = container.get("lifecycle", {}).get("preStop", {}).get("exec")
        if pre_stop and hook:
            self.run(container, hook["command"], self.root)
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(pod(self.workload)["terminationGracePeriodSeconds"])
        return {"code": code, "seconds": round(time.monotonic() - began, 2)}

    def kill(self):
        for process in (self.process, self.holder):
            if process is not None:
                if process.poll() is None:
                    process.kill()
                process.wait()


def names(manifests, pods):
    """{address: names}: what the cluster's DNS would say."""
    found = {one.address: [] for one in pods}
    for one in pods:
        for service in manifests.kind("Service"):
            if one.workload not in manifests.pods(service["spec"]["selector"]):
                continue
            name = service["metadata"]["name"]
            if service["spec"].get("clusterIP") == "None":
                found[one.address].append(f"{one.name}.{name}")
            else:
                found[one.address].append(name)
    return found


def publish(manifests, node):
    """A backend's call, with the key that is in the Secret."""
    secret = next(thing for thing in manifests.kind("Secret") if "api.key" in thing["data"])
    key = base64.b64decode(secret["data"]["api.key"]).decode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    body = json.dumps({"user": "ann", "data": {"order": 17}})
    status, text = node.ask("POST", container_ports(node.workload)["api"], "/v1/publish", body, headers)
    return {"status": status, "answer": text}


def wait_until_ready(pods):
    """Probes them, as a kubelet does; an end is noticed at once."""
    until = time.monotonic() + READY_S
    with contextlib.ExitStack() as stack:
        ends = select.poll()
        of_end = {}
        for one in pods:
            end = os.pidfd_open(one.process.pid)
            stack.callback(os.close, end)
            ends.register(end, select.POLLIN)
            of_end[end] = one
        while not all(one.ready() for one in pods):
            for end, _ in ends.poll(STEP_S * 1000):
                one = of_end[end]
                raise RuntimeError(f"{one.name} ended with {one.process.wait()}")
            if time.monotonic() > until:
                raise TimeoutError(f"not ready within {READY_S} s")


def serve(manifests, pods, report, pre_stop):
    tool("ip", "link", "set", "lo", "up")
    tool("ip", "link", "add", "bridge0", "type", "bridge")
    tool("ip", "link", "set", "bridge0", "up")
    for one in pods:
        one.hosts = names(manifests, [other for other in pods if other is not one])
        one.start_network()
    for one in pods:
        one.start()
    wait_until_ready(pods)
    for one in pods:
        report[one.name] = {
            "kind": one.kind,
            "said": one.said("stdout.txt"),
            "ports": one.listening(),
            "declared": sorted(container_ports(one.workload).values()),
            "probes": {
                name: one.probe(name) for name in ("startupProbe", "livenessProbe", "readinessProbe")
            },
            "metrics": one.ask("GET", container_ports(one.workload)["api"], "/metrics")[1],
            "status": one.status(),
            "writable": one.writable(),
            "libraries": one.libraries(),
        }
    for one in pods:
        if one.kind == "node":
            report[one.name]["published"] = publish(manifests, one)
    for one in sorted(pods, key=lambda one: one.kind != "node"):
        report[one.name]["end"] = one.stop(pre_stop)
        report[one.name]["log"] = one.said("stderr.txt")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("objects", type=pathlib.Path)
    parser.add_argument("report", type=pathlib.Path)
    parser.add_argument("--root")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--pre-stop", action="store_true")
    options = parser.parse_args()
    manifests = Manifests(json.loads(options.objects.read_text()))
    report = {}
    # All mounts are made below this one, in a namespace that ends with this process.
    tool("mount", "--make-rprivate", "/")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="peal-pods-"))
    tool("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", folder)
    # Routers are all needed; of the others one stands for all.
    wanted = [
        (workload, ordinal)
        for workload in manifests.workloads()
        for ordinal in range(1 if options.check else workload["spec"].get("replicas", 1))
        if ordinal == 0 or workload["kind"] == "StatefulSet"
    ]
    pods = [
        Pod(manifests, workload, ordinal, index, folder, options.root)
        for index, (workload, ordinal) in enumerate(wanted)
    ]
    try:
        if options.check:
            report = {one.workload["metadata"]["name"]: one.check() for one in pods}
        else:
            serve(manifests, pods, report, options.pre_stop)
    except (OSError, RuntimeError, TimeoutError, subprocess.SubprocessError) as error:
        report["error"] = str(error)
        for one in pods:
            if one.process is not None:
                report["error"] += f"\n{one.name}:\n{one.said('stdout.txt')}{one.said('stderr.txt')}"
    finally:
        for one in pods:
            one.kill()
        options.report.write_text(json.dumps(report, indent=1))
        tool("umount", "--lazy", folder)
        folder.rmdir()


if __name__ == "__main__":
    sys.exit(main())
