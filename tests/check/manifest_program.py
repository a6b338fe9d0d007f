"""Where the manifests in k8s/ and the program have to agree: ports, names, paths, limits, times.

    for sentence in disagreements(manifests, configs, defaults): ...

configs says what is in force in each pod, as `peal print-config -c` prints it there, {workload:
config}; defaults is what `peal print-config --defaults` prints.
"""

import base64
import re

from manifest_rules import get, lets_out, title
from manifests import container_ports, main_container, pod

# A drain ends within this time, whatever its settings (docs/KUBERNETES.md).
EXIT_S = 30
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
BYTES = {"": 1, "B": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|d)", str(text)).groups()
    return int(number) * SECONDS[unit]


def size(text):
    """Bytes of `16GiB` as Peal writes it or `20Gi` as Kubernetes does."""
    number, unit = re.fullmatch(r"(\d+)((?:[KMGT]i)?)B?", str(text)).groups()
    return int(number) * BYTES[unit]


def port(address):
    return int(address.rsplit(":", 1)[1])


def host(endpoint):
    return endpoint.removeprefix("tcp://").rsplit(":", 1)[0]


def binds(kind, config):
    """{name of the port: address} of what a process of this kind binds."""
    doors = config["doors"]
    bound = {"api": config["api"]["listen"]}
    if kind == "node":
        bound["web"] = config["listen"]
    if kind == "router":
        bound.update({name: doors[name] for name in ("pull", "xpub", "rpc")})
    if kind == "relay":
        bound.update({f"router-{i}": door for i, door in enumerate(doors["relay"])})
    return bound


def agree_ports(manifests, configs, defaults):
    """Ports are those that the program binds, bound for more than loopback, and its defaults."""
    usual = {**binds("node", defaults), **binds("router", defaults)}
    for workload in manifests.workloads():
        declared = container_ports(workload)
        bound = binds(main_container(workload)["args"][0], configs[workload["metadata"]["name"]])
        for name in sorted(declared.keys() ^ bound.keys()):
            yield f"{title(workload)}: port {name} is either bound or declared, not both"
        for name in sorted(declared.keys() & bound.keys()):
            if declared[name] != port(bound[name]):
                yield f"{title(workload)}: declares {name} as {declared[name]}, binds {bound[name]}"
            if host(bound[name]) not in ("*", "0.0.0.0"):
                yield f"{title(workload)}: {name} is bound to {bound[name]}, where no other pod is"
            if name in usual and declared[name] != port(usual[name]):
                yield f"{title(workload)}: {name} is {declared[name]} and usually {port(usual[name])}"


def router_sets(manifests):
    return [
        workload
        for workload in manifests.kind("StatefulSet")
        if main_container(workload)["args"][0] == "router"
    ]


def router_keys(manifests, workload):
    env = manifests.environment(workload)
    return {key: env[key] for key in env if key.startswith("PEAL_CLUSTER__ROUTERS__")}


def agree_routers(manifests, configs, _):
    """cluster.routers is the pods of the StatefulSet, in order, the same everywhere, and reachable."""
    (routers,) = router_sets(manifests)
    name, service = routers["metadata"]["name"], routers["spec"]["serviceName"]
    ports = container_ports(routers)
    wanted = [f"{name}-{i}.{service}" for i in range(routers["spec"]["replicas"])]
    keys = None
    for workload in manifests.workloads():
        kind = main_container(workload)["args"][0]
        config = configs[workload["metadata"]["name"]]
        listed = config["cluster"]["routers"]
        if [host(router["rpc"]) for router in listed] != wanted:
            yield f"{title(workload)}: cluster.routers is not {', '.join(wanted)}"
        for router in listed:
            for door in ("pull", "xpub", "rpc"):
                if port(router[door]) != ports.get(door) or host(router[door]) != host(router["rpc"]):
                    yield f"{title(workload)}: {router[door]} is no {door} of a router"
        known = router_keys(manifests, workload)
        if sorted(known) != sorted(f"PEAL_CLUSTER__ROUTERS__{i}__KEY" for i in range(len(wanted))):
            yield f"{title(workload)}: has keys of {len(known)} routers, not of {len(wanted)}"
        keys = keys or known
        if known != keys:
            yield f"{title(workload)}: has other keys of the routers than others"
        relayed = bool(config["cluster"].get("via"))
        doors = {"node": ["rpc"] if relayed else ["xpub", "rpc"], "relay": ["xpub"]}
        for door in doors.get(kind, []):
            if not lets_out(manifests, workload, routers, ports[door]):
                yield f"{title(workload)}: no NetworkPolicy lets it reach {door} of the routers"
        if kind == "router" and config["cluster"]["self"] != "auto":
            yield f"{title(workload)}: cluster.self is not auto, so all routers are the same one"


def public_key(manifests, workload):
    """Of the pair that the pods of a workload have in common; None when there is none."""
    source = next(one for one in pod(workload)["initContainers"] if one["name"] == "keys")
    volume, name = manifests.mounted(workload, source, source["command"][3])
    secret = manifests.find("Secret", get(volume or {}, "secret.secretName", ""))
    pair = base64.b64decode(secret["data"].get(name, "")).decode() if secret else ""
    found = re.search(r"^public\s+(\S+)$", pair, re.M)
    return found and found[1]


def agree_relays(manifests, configs, _):
    relays = [one for one in manifests.workloads() if main_container(one)["args"][0] == "relay"]
    for workload in manifests.workloads():
        config = configs[workload["metadata"]["name"]]
        via = config["cluster"].get("via") or []
        if main_container(workload)["args"][0] != "node":
            continue
        if bool(via) != bool(relays):
            yield f"{title(workload)}: cluster.via and the relays are not both there"
        env = manifests.environment(workload)
        keys = {key: env[key] for key in env if key.startswith("PEAL_CLUSTER__VIA__")}
        if keys.keys() != {f"PEAL_CLUSTER__VIA__{i}__KEY" for i in range(len(via))}:
            yield f"{title(workload)}: has keys of {len(keys)} relays, not of {len(via)}"
        for key in keys.values():
            if key not in {public_key(manifests, relay) for relay in relays}:
                yield f"{title(workload)}: has another key than the relays"
        for relay in via:
            if len(relay["xpub"]) != len(config["cluster"]["routers"]):
                yield f"{title(workload)}: cluster.via has not one door per router"
            for index, endpoint in enumerate(relay["xpub"]):
                service = manifests.find("Service", host(endpoint))
                found = manifests.pods(service["spec"]["selector"]) if service else []
                if len(found) != 1 or container_ports(found[0]).get(f"router-{index}") != port(endpoint):
                    yield f"{title(workload)}: {endpoint} is no door of a relay for router {index}"
                elif not lets_out(manifests, workload, found[0], port(endpoint)):
                    yield f"{title(workload)}: no NetworkPolicy lets it reach {endpoint}"


def agree_store(manifests, configs, _):
    for workload in router_sets(manifests):
        config = configs[workload["metadata"]["name"]]
        volume, rest = manifests.mounted(workload, main_container(workload), config["data"])
        if volume is None or "claim" not in volume or rest != ".":
            yield f"{title(workload)}: data is {config['data']}, where no claim is mounted"
            continue
        claim = size(volume["claim"]["resources"]["requests"]["storage"])
        if size(config["store"]["max"]) > 0.9 * claim:
            yield f"{title(workload)}: store.max is more than 90 % of the claim"


def bus_key_problems(manifests, workload, path):
    """The init container copies a key that is there to where the program looks for it."""
    inits = [one for one in pod(workload).get("initContainers", []) if one["name"] == "keys"]
    if len(inits) != 1 or inits[0]["command"][:3] != ["install", "-m", "0400"]:
        yield f"{title(workload)}: no init container makes the file of the bus key"
        return
    source, target = inits[0]["command"][3:]
    if target != path:
        yield f"{title(workload)}: bus.key_file is {path}, and the key is copied to {target}"
    volume, _ = manifests.mounted(workload, main_container(workload), target)
    if volume is None or get(volume, "emptyDir.medium") != "Memory":
        yield f"{title(workload)}: {target} is not in memory"
    volume, name = manifests.mounted(workload, inits[0], source)
    secret = manifests.find("Secret", get(volume or {}, "secret.secretName", ""))
    for i in range(workload["spec"].get("replicas", 1)):
        file = name.replace("$(POD)", f"{workload['metadata']['name']}-{i}")
        if secret is None or file not in secret["data"]:
            yield f"{title(workload)}: there is no bus key {file}"


def agree_files(manifests, configs, _):
    """Every file that a configuration names is one that is mounted."""
    for workload in manifests.workloads():
        config = configs[workload["metadata"]["name"]]
        files = list(config["api"].get("key_files") or [])
        files += [key["secret_file"] for key in config["auth"].get("keys") or []]
        for path in files:
            volume, name = manifests.mounted(workload, main_container(workload), path)
            secret = manifests.find("Secret", get(volume or {}, "secret.secretName", ""))
            if secret is None or name not in secret["data"]:
                yield f"{title(workload)}: {path} is not in a Secret that is mounted"
        peers = get(config, "bus.peers_file")
        if main_container(workload)["args"][0] != "node":
            volume, name = manifests.mounted(workload, main_container(workload), peers or "/nowhere")
            thing = manifests.find("ConfigMap", get(volume or {}, "configMap.name", ""))
            if thing is None or name not in thing["data"]:
                yield f"{title(workload)}: bus.peers_file is {peers}, where no list is"
        yield from bus_key_problems(manifests, workload, get(config, "bus.key_file"))
        if get(config, "bus.insecure"):
            yield f"{title(workload)}: bus.insecure: the bus is open to whoever reaches it"


def agree_times(manifests, configs, defaults):
    silence = seconds(defaults["limits"]["ping"]) + seconds(defaults["limits"]["pong"])
    for workload in manifests.workloads():
        config = configs[workload["metadata"]["name"]]
        grace = pod(workload).get("terminationGracePeriodSeconds", 30)
        hook = get(main_container(workload), "lifecycle.preStop.exec.command", ["sleep", "0"])
        if main_container(workload)["args"][0] != "node":
            continue
        drain = sum(seconds(get(config, f"drain.{key}", "0s")) for key in ("settle", "spread"))
        if not drain or drain > EXIT_S:
            yield f"{title(workload)}: the drain takes {drain} s, not up to {EXIT_S} s"
        if grace < int(hook[-1]) + EXIT_S + 10:
            yield f"{title(workload)}: terminationGracePeriodSeconds ends in the middle of the drain"
        silence = seconds(config["limits"]["ping"]) + seconds(config["limits"]["pong"])
    for ingress in manifests.kind("Ingress"):
        for kind in ("read", "send"):
            key = f"nginx.ingress.kubernetes.io/proxy-{kind}-timeout"
            timeout = int(get(ingress["metadata"], "annotations", {}).get(key, "0"))
            if timeout < 60 or timeout <= silence:
                yield f"{title(ingress)}: proxy-{kind}-timeout {timeout} s cuts idle connections"


def agree_capacity(manifests, configs, _):
    for scaler in manifests.kind("HorizontalPodAutoscaler"):
        config = configs[scaler["spec"]["scaleTargetRef"]["name"]]
        room = config["limits"]["connections"] * config["workers"]
        aims = [
            int(metric["pods"]["target"]["averageValue"])
            for metric in scaler["spec"]["metrics"]
            if metric["type"] == "Pods" and metric["pods"]["metric"]["name"] == "peal_connections"
        ]
        if len(aims) != 1 or aims[0] * 2 > room:
            yield f"{title(scaler)}: aims at {aims} connections of {room} that a node takes"


AGREEMENTS = [rule for name, rule in sorted(globals().items()) if name.startswith("agree_")]


def disagreements(manifests, configs, defaults):
    return [sentence for rule in AGREEMENTS for sentence in rule(manifests, configs, defaults)]
