"""The manifests in k8s/: they render, they are what Kubernetes knows, they keep to the rules. And that
each of these checks refuses what it is there to refuse: a change in a rendered object, one at a time."""

import copy
import json
import pathlib
import subprocess

import pytest

import manifest_rules
from manifests import OVERLAYS, Manifests, kubectls, plain_name, render_overlay

SCHEMAS = pathlib.Path(__file__).with_name("kubernetes.mjs")

DROP = object()  # takes the field away

# Paths are words with a space between: names of labels have dots and slashes in them.
POD = "spec template spec"
PEAL = f"{POD} containers 0"
INIT = f"{POD} initContainers 0"
NODE, ROUTER, RELAY = "Deployment/peal-node", "StatefulSet/peal-router", "Deployment/peal-relay"
READ_TIMEOUT = "metadata annotations nginx.ingress.kubernetes.io/proxy-read-timeout"


def mutate(manifests, name, path, value):
    """A copy in which the object has value at path; + as the last word adds to a list."""
    mutant = Manifests(copy.deepcopy(manifests.objects))
    kind, _, plain = name.partition("/")
    thing = mutant.get(kind, plain)
    *words, last = path.split(" ")
    for word in words:
        thing = thing[int(word)] if isinstance(thing, list) else thing[word]
    if value is DROP:
        del thing[last]
    elif last == "+":
        thing.append(value)
    elif isinstance(thing, list):
        thing[int(last)] = value
    else:
        thing[last] = value
    return mutant


def schema_problems(objects):
    """[[index, sentence]] of what the schemas of Kubernetes do not know or do not take."""
    told = subprocess.run(
        ["node", SCHEMAS], input=json.dumps(objects), capture_output=True, text=True, timeout=50
    )
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


# ---- as they are -------------------------------------------------------------------------------


def test_debians_kubectl_is_among_those_that_render():
    assert "1.20" in kubectls(), "./dev setup test installs it"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_kubectl_renders_the_same(overlay):
    def plain(objects):
        """Without the hashes, which every kustomize computes in its own way."""
        text = json.dumps(sorted(objects, key=lambda thing: (thing["kind"], plain_name(thing))))
        for thing in objects:
            text = text.replace(f'"{thing["metadata"]["name"]}"', f'"{plain_name(thing)}"')
        return json.loads(text)

    folders = {version: render_overlay(overlay, version) for version in kubectls()}
    first, *others = [plain(manifests.objects) for manifests in folders.values()]
    assert len(first) > 15
    for other in others:
        assert other == first


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_one_that_kubernetes_knows(overlay):
    for version in kubectls():
        assert schema_problems(render_overlay(overlay, version).objects) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_rules_find_nothing(overlay):
    for version in kubectls():
        manifests = render_overlay(overlay, version)
        assert manifest_rules.problems(manifests) == []


def test_every_rule_is_broken_by_a_mutation_below():
    broken = {"rule_secrets_are_only_in_secrets"}  # by the last tests of this file
    for overlay, name, path, value, _ in RULE_MUTATIONS:
        mutant = mutate(render_overlay(overlay), name, path, value)
        broken |= {rule.__name__ for rule in manifest_rules.RULES if list(rule(mutant))}
    assert broken == {rule.__name__ for rule in manifest_rules.RULES}


# ---- what the schemas refuse -------------------------------------------------------------------

SCHEMA_MUTATIONS = [
    (NODE, "replicas", 2, "/replicas: unknown field"),
    (NODE, "spec replica", 2, "/spec/replica: unknown field"),
    (NODE, "spec replicas", "two", "/spec/replicas: type"),
    (NODE, "spec template", DROP, "required"),
    (NODE, "metadata label", {"a": "b"}, "/metadata/label: unknown field"),
    (NODE, "metadata labels a", 1, "/metadata/labels/a: type"),
    (NODE, f"{PEAL} securityContext privilege", False, "privilege: unknown field"),
    (NODE, f"{PEAL} readynessProbe", {}, "readynessProbe: unknown field"),
    (NODE, f"{PEAL} readinessProbe httpGet url", "/", "httpGet/url: unknown field"),
    (NODE, f"{PEAL} ports 0 containerPort", "8080", "containerPort: type"),
    (NODE, f"{PEAL} resources limit", {}, "resources/limit: unknown field"),
    (NODE, f"{POD} seccomp", {}, "/spec/template/spec/seccomp: unknown field"),
    (NODE, "apiVersion", "apps/v2", "Kubernetes has no apps/v2 Deployment"),
    (NODE, "apiVersion", "extensions/v1", "Kubernetes has no extensions/v1 Deployment"),
    (ROUTER, "spec volumeClaimTemplates 0 spec storage", "1Gi", "spec/storage: unknown field"),
    (ROUTER, "spec selector", DROP, "selector"),
    (ROUTER, "spec strategy", {}, "/spec/strategy: unknown field"),
    ("HorizontalPodAutoscaler/peal-node", "spec minReplica", 1, "minReplica: unknown field"),
    ("HorizontalPodAutoscaler/peal-node", "spec metrics 1 pods metric", DROP, "metric"),
    ("PodDisruptionBudget/peal-node", "spec maxUnavailabel", 1, "maxUnavailabel: unknown field"),
    ("NetworkPolicy/peal-node", "spec ingress 0 port", [], "ingress/0/port: unknown field"),
    ("Ingress/peal", "spec rules 0 http paths 0 pathType", DROP, "pathType"),
    ("Ingress/peal", "spec rules 0 http paths 0 backend serviceName", "x", "unknown field"),
    ("Service/peal-node", "spec ports 0 port", "http", "port: type"),
    ("ConfigMap/peal-node", "data peal.yaml", {"listen": ""}, "peal.yaml: type"),
    ("Secret/peal-node-secrets", "data api.key", "not base64!", "api.key: format"),
]


def test_schemas_refuse_each_mutation():
    manifests = render_overlay("base")
    mutants = []
    for name, path, value, _ in SCHEMA_MUTATIONS:
        kind, _, plain = name.partition("/")
        mutant = mutate(manifests, name, path, value)
        # By its place: the kind or the version may be what was changed.
        index = next(
            i for i, thing in enumerate(manifests.objects)
            if thing["kind"] == kind and plain in (plain_name(thing), thing["metadata"]["name"])
        )
        mutants.append(mutant.objects[index])
    told = schema_problems(mutants)  # all at once: starting node takes longer than the work
    for index, (name, path, _, expected) in enumerate(SCHEMA_MUTATIONS):
        sentences = [sentence for at, sentence in told if at == index]
        assert any(expected in sentence for sentence in sentences), (name, path, sentences)


# ---- what the rules refuse ---------------------------------------------------------------------

ALL = {"matchLabels": {"app.kubernetes.io/name": "peal"}}
BASE, ZONES = "base", "overlays/zones"

RULE_MUTATIONS = [
    (BASE, NODE, f"{POD} automountServiceAccountToken", DROP, "automountServiceAccountToken"),
    (BASE, NODE, f"{POD} automountServiceAccountToken", True, "automountServiceAccountToken"),
    (BASE, NODE, f"{POD} enableServiceLinks", DROP, "enableServiceLinks"),
    (BASE, NODE, f"{POD} securityContext runAsNonRoot", False, "runAsNonRoot"),
    (BASE, ROUTER, f"{POD} securityContext", {}, "seccompProfile"),
    (BASE, ROUTER, f"{POD} securityContext seccompProfile type", "Unconfined", "seccompProfile"),
    (BASE, ROUTER, f"{POD} securityContext runAsUser", 0, "runAsUser is 0"),
    (BASE, ROUTER, f"{POD} securityContext fsGroup", DROP, "fsGroup"),
    (BASE, NODE, f"{POD} hostNetwork", True, "hostNetwork"),
    (BASE, NODE, f"{POD} hostPID", True, "hostPID"),
    (BASE, NODE, f"{POD} serviceAccountName", "admin", "serviceAccountName"),
    (BASE, NODE, f"{POD} volumes +", {"name": "x", "hostPath": {"path": "/"}}, "x is a hostPath"),
    (BASE, NODE, f"{POD} volumes 1 secret defaultMode", 0o444, "are for others"),
    (BASE, NODE, f"{POD} volumes 1 secret defaultMode", DROP, "are for others"),
    (BASE, NODE, f"{POD} volumes 3 emptyDir", {"medium": "Memory"}, "sizeLimit"),
    (BASE, NODE, f"{PEAL} securityContext privileged", True, "privileged"),
    (BASE, NODE, f"{PEAL} securityContext runAsUser", 0, "runAsUser goes beyond"),
    (BASE, NODE, f"{PEAL} securityContext", DROP, "readOnlyRootFilesystem"),
    (BASE, NODE, f"{PEAL} securityContext readOnlyRootFilesystem", False, "readOnlyRootFilesystem"),
    (BASE, NODE, f"{PEAL} securityContext allowPrivilegeEscalation", True, "allowPrivilegeEscal"),
    (BASE, NODE, f"{PEAL} securityContext capabilities drop", [], "capabilities"),
    (BASE, NODE, f"{PEAL} securityContext capabilities add", ["NET_ADMIN"], "capabilities"),
    (BASE, NODE, f"{INIT} securityContext capabilities", DROP, "capabilities"),
    (BASE, NODE, f"{PEAL} image", "peal", "has no version"),
    (BASE, NODE, f"{PEAL} image", "peal:latest", "has no version"),
    (BASE, NODE, f"{PEAL} ports 0 hostPort", 8080, "hostPort"),
    (BASE, NODE, f"{PEAL} resources limits memory", DROP, "limits.memory"),
    (BASE, ROUTER, f"{PEAL} resources requests", DROP, "requests.cpu"),
    (BASE, ROUTER, f"{INIT} resources", DROP, "requests.memory"),
    (BASE, NODE, f"{PEAL} readinessProbe", DROP, "no readinessProbe"),
    (BASE, ROUTER, f"{PEAL} livenessProbe", DROP, "no livenessProbe"),
    (ZONES, RELAY, f"{PEAL} startupProbe", DROP, "no startupProbe"),
    (BASE, NODE, f"{PEAL} readinessProbe httpGet path", "/livez", "asks /livez and not /readyz"),
    (BASE, NODE, f"{PEAL} livenessProbe httpGet path", "/readyz", "asks /readyz and not /livez"),
    (BASE, NODE, f"{PEAL} livenessProbe httpGet port", "web", "port web and not api"),
    (BASE, NODE, f"{PEAL} livenessProbe", {"exec": {"command": ["true"]}}, "no livenessProbe"),
    (BASE, NODE, f"{PEAL} lifecycle", DROP, "preStop"),
    (BASE, NODE, f"{PEAL} lifecycle preStop exec command 1", "0", "preStop"),
    (
        BASE, "ConfigMap/peal-node", "data more.yaml", "auth: {keys: [{secret: abc}]}",
        "auth.keys.*.secret",
    ),
    (BASE, "ConfigMap/peal-node", "data more.yaml", "api: {keys: [abc]}", "api.keys.*"),
    (BASE, "ConfigMap/peal-router-keys", "data PEAL_API__KEYS__0", "abc", "is a secret"),
    (
        BASE, NODE, f"{PEAL} envFrom +", {"secretRef": {"name": "peal-node-secrets"}},
        "by environment",
    ),
    (
        BASE, NODE, f"{PEAL} env",
        [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "peal-node-secrets", "key": "api.key"}}}],
        "X of a secret",
    ),
    (BASE, NODE, f"{PEAL} env", [{"name": "API_KEY", "value": "abc"}], "looks like a secret"),
    (
        BASE, ROUTER, f"{PEAL} volumeMounts +", {"name": "bus-key", "mountPath": "/k"},
        "sees the bus keys",
    ),
    (BASE, NODE, f"{PEAL} volumeMounts 0 readOnly", False, "may write to /etc/peal"),
    (BASE, NODE, f"{POD} volumes 0 configMap name", "peal-nodes", "no ConfigMap peal-nodes"),
    (BASE, NODE, f"{POD} volumes 1 secret secretName", "peal-x", "no Secret peal-x"),
    (BASE, NODE, f"{PEAL} volumeMounts 0 name", "configs", "no volume configs"),
    (BASE, NODE, f"{PEAL} envFrom 0 configMapRef name", "peal-x", "no ConfigMap peal-x"),
    (BASE, NODE, "spec selector matchLabels", {"a": "b"}, "selector is not the labels"),
    (BASE, NODE, "spec template metadata labels", {"a": "b"}, "not named peal"),
    (
        BASE, NODE, f"{POD} topologySpreadConstraints 0 labelSelector",
        {"matchLabels": {"a": "b"}}, "what is not its own",
    ),
    (BASE, "Service/peal-node", "spec selector", {"a": "b"}, "selects 0 kinds"),
    (BASE, "Service/peal-node", "spec selector", ALL["matchLabels"], "selects 2 kinds"),
    (BASE, "Service/peal-node", "spec ports 0 targetPort", "webb", "leads to no port"),
    (BASE, "Service/peal-api", "spec ports 0 port", 8080, "leads to no port 8080"),
    (BASE, "Service/peal-router", "spec clusterIP", DROP, "not headless"),
    (BASE, "Service/peal-router", "spec publishNotReadyAddresses", False, "not ready"),
    (BASE, ROUTER, "spec serviceName", "peal-node", "not a Service of its pods"),
    (BASE, "Ingress/peal", "spec rules 0 http paths 0 backend service name", "x", "no port of"),
    (
        BASE, "Ingress/peal", "spec rules 0 http paths 0 backend service", {"name": "peal-api", "port": {"name": "api"}},
        "opens api",
    ),
    (BASE, "Ingress/peal", "spec tls", [], "not every host has TLS"),
    (BASE, "HorizontalPodAutoscaler/peal-node", "spec scaleTargetRef name", "x", "no Deployment x"),
    (BASE, "HorizontalPodAutoscaler/peal-node", "spec minReplicas", 99, "least is more"),
    (BASE, NODE, "spec replicas", 2, "has replicas"),
    (BASE, "PodDisruptionBudget/peal-node", "spec selector", ALL, "2 PodDisruptionBudgets"),
    (BASE, "PodDisruptionBudget/peal-router", "spec maxUnavailable", 0, "lets more or fewer"),
    (BASE, "NetworkPolicy/peal-default-deny", "spec podSelector matchLabels a", "b", "denies it"),
    (BASE, "NetworkPolicy/peal-default-deny", "spec policyTypes", ["Ingress"], "denies it"),
    (BASE, "NetworkPolicy/peal-default-deny", "spec ingress", [{}], "for everybody"),
    (BASE, "NetworkPolicy/peal-node", "spec ingress 0 from", DROP, "for everybody"),
    (
        BASE, "NetworkPolicy/peal-node", "spec ingress 0 from", [{"podSelector": {}}],
        "for everybody",
    ),
    (
        BASE, "NetworkPolicy/peal-node", "spec ingress 0 from", [{"ipBlock": {"cidr": "0.0.0.0/0"}}],
        "for everybody",
    ),
    (BASE, "NetworkPolicy/peal-node", "spec ingress 0 ports", DROP, "every port"),
    (BASE, "NetworkPolicy/peal-node", "spec policyTypes", DROP, "no policyTypes"),
    (BASE, "NetworkPolicy/peal-node", "spec ingress 0 ports 0 port", 80, "nobody listens"),
    (BASE, "NetworkPolicy/peal-node", "spec egress 0 ports 0 port", 7803, "nobody listens"),
    (BASE, "NetworkPolicy/peal-node", "spec egress 0 ports 0 port", 7800, "does not let in"),
    (BASE, "NetworkPolicy/peal-node", "spec podSelector matchLabels", {"a": "b"}, "is for no pods"),
    (BASE, "NetworkPolicy/peal-router", "spec ingress", [], "lets anybody in to 7800"),
    (
        ZONES, "NetworkPolicy/peal-router-from-relays", "spec ingress 0 ports 0 port", 7800,
        "does not let in",
    ),
]


@pytest.mark.parametrize("overlay, name, path, value, expected", RULE_MUTATIONS)
def test_rules_refuse_each_mutation(overlay, name, path, value, expected):
    mutant = mutate(render_overlay(overlay), name, path, value)
    found = manifest_rules.problems(mutant)
    assert any(expected in sentence for sentence in found), found


@pytest.mark.parametrize("key", ["api.key", "token.secret"])
@pytest.mark.parametrize("name, path", [
    ("ConfigMap/peal-node", "data peal.yaml"),
    ("ConfigMap/peal-peers", "data more"),
    (NODE, "metadata annotations"),
    (NODE, f"{PEAL} args +"),
])
def test_a_secret_anywhere_else_is_found_by_its_value(key, name, path):
    manifests = render_overlay("base")
    secret = manifest_rules.secret_data(manifests.get("Secret", "peal-node-secrets"))[key].decode()
    value = {"note": secret} if path.endswith("annotations") else f"x: {secret}\n"
    found = manifest_rules.problems(mutate(manifests, name, path, value))
    assert any(f"holds what is in Secret/peal-node-secrets {key}" in sentence for sentence in found)


def test_the_secret_half_of_a_bus_key_is_found_and_the_public_one_is_not():
    manifests = render_overlay("base")
    pair = manifest_rules.secret_data(manifests.get("Secret", "peal-node-bus"))["bus.key"].decode()
    halves = dict(line.split() for line in pair.splitlines() if not line.startswith("#"))
    found = {
        half: manifest_rules.problems(mutate(manifests, "ConfigMap/peal-peers", "data more", text))
        for half, text in halves.items()
    }
    assert found["public"] == []
    assert any("holds what is in Secret/peal-node-bus" in sentence for sentence in found["secret"])
