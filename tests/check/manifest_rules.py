"""What the manifests in k8s/ have to keep to. Each rule yields a sentence for each thing that is wrong.

    for sentence in problems(manifests): ...

Rules here read manifests alone; manifest_program.py compares them with the program.
"""

import ipaddress
import re

import yaml

from manifests import (
    all_volumes,
    container_ports,
    containers,
    main_container,
    plain_name,
    pod,
    secret_data,
    template,
)

NAMED = {"app.kubernetes.io/name": "peal"}
SECRET_WORD = re.compile(rb"[^\s]{16,}")


def title(thing):
    return f"{thing['kind']}/{plain_name(thing)}"


def get(thing, path, fallback=None):
    """thing["a"]["b"] of "a.b", or fallback where there is no such thing."""
    for key in path.split("."):
        if not isinstance(thing, dict) or key not in thing:
            return fallback
        thing = thing[key]
    return thing


# ---- pods and containers -----------------------------------------------------------------------


def rule_pods_are_restricted(manifests):
    """Kubernetes' restricted profile, and what it leaves open."""
    wanted = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext.runAsNonRoot": True,
        "securityContext.seccompProfile.type": "RuntimeDefault",
    }
    for workload in manifests.workloads():
        spec = pod(workload)
        for path, value in wanted.items():
            if get(spec, path) != value:
                yield f"{title(workload)}: {path} is {get(spec, path)} and not {value}"
        for key in ("runAsUser", "runAsGroup", "fsGroup"):
            number = get(spec, f"securityContext.{key}")
            if not isinstance(number, int) or number < 1000:
                yield f"{title(workload)}: securityContext.{key} is {number}, one of the system's"
        for key in ("hostNetwork", "hostPID", "hostIPC", "serviceAccountName"):
            if spec.get(key):
                yield f"{title(workload)}: has {key}"
        for volume in all_volumes(workload):
            kind = next(key for key in volume if key != "name")
            if kind not in ("configMap", "secret", "emptyDir", "claim"):
                yield f"{title(workload)}: the volume {volume['name']} is a {kind}"
            if kind == "secret" and volume["secret"].get("defaultMode", 0o644) & 0o337:
                yield f"{title(workload)}: the files of the secret {volume['name']} are for others"
            if kind == "emptyDir" and "sizeLimit" not in volume["emptyDir"]:
                yield f"{title(workload)}: the volume {volume['name']} has no sizeLimit"


def rule_containers_are_restricted(manifests):
    wanted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for workload in manifests.workloads():
        for container in containers(workload):
            name = f"{title(workload)}: {container['name']}"
            context = dict(container.get("securityContext", {}))
            for key, value in wanted.items():
                if context.pop(key, None) != value:
                    yield f"{name}: securityContext.{key} is not {value}"
            for key in context:
                yield f"{name}: securityContext.{key} goes beyond what the pod says"
            if not re.fullmatch(r"[a-z0-9./-]+:(?!latest$)[\w.-]+", container["image"]):
                yield f"{name}: the image {container['image']} has no version"
            for port in container.get("ports", []):
                if "hostPort" in port:
                    yield f"{name}: has a hostPort"


def rule_containers_have_resources(manifests):
    for workload in manifests.workloads():
        for container in containers(workload):
            for path in ("requests.cpu", "requests.memory", "limits.memory"):
                if get(container, f"resources.{path}") is None:
                    yield f"{title(workload)}: {container['name']} has no resources.{path}"


def rule_probes_ask_the_program(manifests):
    wanted = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for workload in manifests.workloads():
        ports = container_ports(workload)
        for probe, path in wanted.items():
            ask = get(main_container(workload), f"{probe}.httpGet")
            if ask is None:
                yield f"{title(workload)}: has no {probe} by HTTP"
            elif ask["path"] != path:
                yield f"{title(workload)}: the {probe} asks {ask['path']} and not {path}"
            elif ask["port"] != "api" or "api" not in ports:
                yield f"{title(workload)}: the {probe} asks port {ask['port']} and not api"


def rule_nodes_wait_before_they_drain(manifests):
    for workload in manifests.workloads():
        if main_container(workload)["args"][0] != "node":
            continue
        command = get(main_container(workload), "lifecycle.preStop.exec.command", [])
        if len(command) != 2 or command[0] != "sleep" or not 3 <= int(command[1]) <= 15:
            yield f"{title(workload)}: preStop does not wait 3 to 15 s for the routing to change"


# ---- secrets -----------------------------------------------------------------------------------


def secret_words(manifests):
    """Every long word of every Secret but the public halves of key pairs: {word: where}."""
    words = {}
    for secret in manifests.kind("Secret"):
        for key, value in secret_data(secret).items():
            for line in value.splitlines():
                if not line.startswith(b"public "):
                    for word in SECRET_WORD.findall(line):
                        words[word] = f"{title(secret)} {key}"
    return words


def rule_secrets_are_only_in_secrets(manifests):
    words = secret_words(manifests)
    for thing in manifests.objects:
        if thing["kind"] == "Secret":
            continue
        # Both as it is printed and as it is meant: YAML may fold or escape.
        text = yaml.safe_dump(thing, width=1 << 20) + "\n".join(
            str(value) for value in (thing.get("data") or {}).values()
        )
        for word, where in words.items():
            if word in text.encode():
                yield f"{title(thing)}: holds what is in {where}"


def config_secrets(config, path=""):
    """Where a configuration has a secret itself instead of naming its file."""
    if isinstance(config, dict):
        for key, value in config.items():
            yield from config_secrets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(config, list):
        for value in config:
            yield from config_secrets(value, f"{path}.*")
    elif path in ("api.keys.*", "auth.keys.*.secret") or re.search(r"secret$|password|token$", path):
        yield path


def rule_configurations_name_files_of_secrets(manifests):
    for thing in manifests.kind("ConfigMap"):
        for key, value in thing["data"].items():
            if key.startswith("PEAL_") and re.search(r"SECRET$|API__KEYS|TOKEN|PASSWORD", key):
                yield f"{title(thing)}: {key} is a secret"
            if key.endswith(".yaml"):
                for path in config_secrets(yaml.safe_load(value)):
                    yield f"{title(thing)}: {key} has {path} in it and not in a file"


def rule_secrets_are_files(manifests):
    """An environment is seen by whoever may look at the process, and by all that it starts."""
    for workload in manifests.workloads():
        for container in containers(workload):
            name = f"{title(workload)}: {container['name']}"
            for source in container.get("envFrom", []):
                if "secretRef" in source:
                    yield f"{name}: gets the secret {source['secretRef']['name']} by environment"
            for variable in container.get("env", []):
                if get(variable, "valueFrom.secretKeyRef"):
                    yield f"{name}: gets {variable['name']} of a secret by environment"
                if re.search(r"SECRET|KEY|TOKEN|PASSWORD", variable["name"]):
                    yield f"{name}: {variable['name']} looks like a secret in the environment"


def rule_processes_see_no_keys_of_others(manifests):
    """The folder with the bus keys is for the container that takes the pod's own out of it."""
    for workload in manifests.workloads():
        folders = {
            volume["name"]
            for volume in pod(workload)["volumes"]
            if "secret" in volume and "-bus" in volume["secret"]["secretName"]
        }
        for mount in main_container(workload)["volumeMounts"]:
            if mount["name"] in folders:
                yield f"{title(workload)}: the program sees the bus keys in {mount['mountPath']}"
            if mount["name"] != "data" and not mount.get("readOnly"):
                yield f"{title(workload)}: the program may write to {mount['mountPath']}"


# ---- names that lead somewhere -----------------------------------------------------------------


def rule_references_lead_somewhere(manifests):
    def missing(workload, kind, name):
        if manifests.find(kind, name) is None:
            yield f"{title(workload)}: there is no {kind} {name}"

    for workload in manifests.workloads():
        labels = template(workload)["metadata"]["labels"]
        if not NAMED.items() <= labels.items():
            yield f"{title(workload)}: its pods are not named peal"
        if get(workload, "spec.selector.matchLabels") != labels:
            yield f"{title(workload)}: its selector is not the labels of its pods"
        for spread in pod(workload).get("topologySpreadConstraints", []):
            if get(spread, "labelSelector.matchLabels") != labels:
                yield f"{title(workload)}: it spreads over {spread['topologyKey']} what is not its own"
        for volume in pod(workload)["volumes"]:
            if "configMap" in volume:
                yield from missing(workload, "ConfigMap", volume["configMap"]["name"])
            if "secret" in volume:
                yield from missing(workload, "Secret", volume["secret"]["secretName"])
        names = {volume["name"] for volume in all_volumes(workload)}
        for container in containers(workload):
            for source in container.get("envFrom", []):
                yield from missing(workload, "ConfigMap", get(source, "configMapRef.name", "?"))
            for mount in container["volumeMounts"]:
                if mount["name"] not in names:
                    yield f"{title(workload)}: there is no volume {mount['name']}"


def rule_services_reach_pods(manifests):
    for service in manifests.kind("Service"):
        pods = manifests.pods(service["spec"]["selector"])
        if len(pods) != 1:
            yield f"{title(service)}: selects {len(pods)} kinds of pods"
            continue
        ports = container_ports(pods[0])
        for port in service["spec"]["ports"]:
            if ports.get(port["targetPort"]) != port["port"]:
                yield f"{title(service)}: {port['name']} leads to no port {port['port']} of its pods"
    for workload in manifests.kind("StatefulSet"):
        service = manifests.find("Service", workload["spec"]["serviceName"])
        if service is None or workload not in manifests.pods(service["spec"]["selector"]):
            yield f"{title(workload)}: serviceName is not a Service of its pods"
        elif service["spec"].get("clusterIP") != "None":
            yield f"{title(service)}: is not headless, so its pods have no names"
        elif service["spec"].get("publishNotReadyAddresses") is not True:
            yield f"{title(service)}: hides routers that are not ready"
    for ingress in manifests.kind("Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                service = manifests.find("Service", backend["name"])
                names = [port["name"] for port in service["spec"]["ports"]] if service else []
                if get(backend, "port.name") not in names:
                    yield f"{title(ingress)}: {path['path']} leads to no port of a Service"
                elif get(backend, "port.name") != "web":
                    yield f"{title(ingress)}: opens {backend['port']['name']} to the world"
        if {host for tls in ingress["spec"].get("tls", []) for host in tls["hosts"]} != {
            rule["host"] for rule in ingress["spec"]["rules"]
        }:
            yield f"{title(ingress)}: not every host has TLS"


def rule_scaling_and_budgets_have_targets(manifests):
    for scaler in manifests.kind("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        workload = manifests.find(target["kind"], target["name"])
        if workload is None:
            yield f"{title(scaler)}: there is no {target['kind']} {target['name']}"
        elif "replicas" in workload["spec"]:
            yield f"{title(workload)}: has replicas, which {title(scaler)} sets"
        if scaler["spec"]["minReplicas"] > scaler["spec"]["maxReplicas"]:
            yield f"{title(scaler)}: the least is more than the most"
    guarded = []
    for budget in manifests.kind("PodDisruptionBudget"):
        guarded += manifests.pods(get(budget, "spec.selector.matchLabels", {}))
        if budget["spec"].get("maxUnavailable") != 1:
            yield f"{title(budget)}: lets more or fewer than one go at a time"
    for workload in manifests.workloads():
        if guarded.count(workload) != 1:
            yield f"{title(workload)}: has {guarded.count(workload)} PodDisruptionBudgets"


# ---- network -----------------------------------------------------------------------------------


def rules_of(policy, way):
    key = {"Ingress": "ingress", "Egress": "egress"}[way]
    return policy["spec"].get(key, []) if way in policy["spec"].get("policyTypes", []) else []


def rule_nothing_is_allowed_by_default(manifests):
    denied = []
    for policy in manifests.kind("NetworkPolicy"):
        both = sorted(policy["spec"].get("policyTypes", [])) == ["Egress", "Ingress"]
        if both and not policy["spec"].get("ingress") and not policy["spec"].get("egress"):
            denied += manifests.pods(get(policy, "spec.podSelector.matchLabels", {}))
    for workload in manifests.workloads():
        if workload not in denied:
            yield f"{title(workload)}: no NetworkPolicy denies it everything"


def rule_network_rules_are_narrow(manifests):
    for policy in manifests.kind("NetworkPolicy"):
        if "policyTypes" not in policy["spec"]:
            yield f"{title(policy)}: says no policyTypes"
            continue
        for way, key in (("Ingress", "from"), ("Egress", "to")):
            for rule in rules_of(policy, way):
                if not rule.get(key) or not rule.get("ports"):
                    yield f"{title(policy)}: has a rule for everybody or for every port"
                for peer in rule.get(key) or []:
                    selectors = [get(peer, f"{kind}.matchLabels") for kind in peer]
                    block = get(peer, "ipBlock.cidr")
                    wide = block and ipaddress.ip_network(block).prefixlen < 8
                    if wide or (not block and not all(selectors)):
                        yield f"{title(policy)}: has a rule for everybody"


def rule_network_rules_fit_the_ports(manifests):
    """What is allowed is listened on, and what is listened on is allowed to somebody."""
    for policy in manifests.kind("NetworkPolicy"):
        own = manifests.pods(get(policy, "spec.podSelector.matchLabels", {}))
        if not own:
            yield f"{title(policy)}: is for no pods"
        for rule in rules_of(policy, "Ingress"):
            for port in rule.get("ports", []):
                if any(port["port"] not in container_ports(workload).values() for workload in own):
                    yield f"{title(policy)}: lets in to {port['port']}, where nobody listens"
        for rule in rules_of(policy, "Egress"):
            peers = [get(peer, "podSelector.matchLabels", {}) for peer in rule.get("to", [])]
            for workload in [found for labels in peers for found in manifests.pods(labels)]:
                for port in rule.get("ports", []):
                    if port["port"] not in container_ports(workload).values():
                        yield f"{title(policy)}: lets out to {port['port']}, where nobody listens"
                    elif not lets_in(manifests, own, workload, port["port"]):
                        yield (
                            f"{title(policy)}: lets out to {port['port']} of {title(workload)}, "
                            "which does not let in"
                        )
    for workload in manifests.workloads():
        for port in container_ports(workload).values():
            if not any(True for _ in letting_in(manifests, workload, port)):
                yield f"{title(workload)}: no NetworkPolicy lets anybody in to {port}"


def letting_in(manifests, workload, port):
    """The peers that may come in to a port."""
    for policy in manifests.kind("NetworkPolicy"):
        if workload not in manifests.pods(get(policy, "spec.podSelector.matchLabels", {})):
            continue
        for rule in rules_of(policy, "Ingress"):
            if any(allowed["port"] == port for allowed in rule.get("ports", [])):
                yield from rule.get("from") or []


def lets_in(manifests, clients, server, port):
    for peer in letting_in(manifests, server, port):
        if "namespaceSelector" in peer:
            continue
        allowed = manifests.pods(get(peer, "podSelector.matchLabels", {}))
        if all(client in allowed for client in clients):
            return True
    return False


def lets_out(manifests, client, server, port):
    for policy in manifests.kind("NetworkPolicy"):
        if client not in manifests.pods(get(policy, "spec.podSelector.matchLabels", {})):
            continue
        for rule in rules_of(policy, "Egress"):
            peers = [get(peer, "podSelector.matchLabels") for peer in rule.get("to", [])]
            reached = [thing for labels in peers if labels for thing in manifests.pods(labels)]
            if server in reached and any(allowed["port"] == port for allowed in rule["ports"]):
                return True
    return False


RULES = [rule for name, rule in sorted(globals().items()) if name.startswith("rule_")]


def problems(manifests):
    return [sentence for rule in RULES for sentence in rule(manifests)]
