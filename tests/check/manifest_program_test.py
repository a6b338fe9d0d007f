"""The manifests in k8s/ and the program agree: by reading both, and by running the one in the other.

The pods are started in namespaces of this machine as a kubelet would start them (pods.py). That needs
root; where nobody is root these tests are skipped."""

import copy
import functools
import subprocess

import known
import manifest_program
import pytest
import yaml
from manifests import OVERLAYS, Manifests, main_container, render_overlay
from manifests_test import BASE, INIT, NODE, PEAL, POD, RELAY, ROUTER, ZONES, mutate
from peal import program
from pod_runs import may_make_namespaces, pod_problems, run_pods

needs_namespaces = pytest.mark.skipif(
    not may_make_namespaces(), reason="needs root, ip and the right to make namespaces"
)


def configs_in_force(manifests):
    """{workload: configuration} as the program prints it in each pod; and what it says of each."""
    report = run_pods(manifests, "--check")
    assert "error" not in report, report["error"]
    configs = {}
    for workload in manifests.workloads():
        name = workload["metadata"]["name"]
        configs[name] = yaml.safe_load(report[name]["config"]) or {}
    return configs, {name: one["said"] for name, one in report.items()}


@functools.cache
def overlay_configs(overlay):
    return configs_in_force(render_overlay(overlay))


@functools.cache
def defaults():
    told = subprocess.run(
        [program(), "print-config", "--defaults"], capture_output=True, text=True, timeout=30
    )
    assert told.returncode == 0, told.stderr
    return yaml.safe_load(told.stdout)


# ---- what the program knows --------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_key_and_verb_is_one_that_the_program_knows(overlay):
    manifests = render_overlay(overlay)
    for workload in manifests.workloads():
        keys = known.leaves(yaml.safe_load(manifests.config(workload)))
        keys |= {known.variable_pattern(name) for name in manifests.environment(workload)}
        assert {key for key in keys if not known.knows_key(key)} == set()
        assert known.knows_verb(main_container(workload)["args"][0])


def test_a_misspelt_key_is_unknown():
    assert known.knows_key("api.listen")
    assert known.knows_key("cluster.routers.*.pull")
    assert not known.knows_key("api.listens")
    assert not known.knows_key("cluster.routers.*.push")
    assert not known.knows_verb("rooter")


# ---- what both say -----------------------------------------------------------------------------


@needs_namespaces
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_program_takes_every_configuration_in_its_pod(overlay):
    _, said = overlay_configs(overlay)
    assert set(said.values()) == {"ok\n"}


@needs_namespaces
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_and_program_agree(overlay):
    configs, _ = overlay_configs(overlay)
    assert manifest_program.disagreements(render_overlay(overlay), configs, defaults()) == []


def swap(old, new):
    """A change inside of a configuration file."""
    return ("swap", old, new)


NODE_CONFIG, ROUTER_CONFIG, RELAY_CONFIG = (
    f"ConfigMap/peal-{kind}" for kind in ("node", "router", "relay")
)
FILE = "data peal.yaml"
WEB, API = f"{PEAL} ports 0 containerPort", f"{PEAL} ports 1 containerPort"

MUTATIONS = [
    (BASE, NODE, WEB, 8090, "declares web as 8090"),
    (BASE, NODE, API, 8082, "declares api as 8082"),
    (BASE, NODE, f"{PEAL} ports 0 name", "http", "port http is either bound or declared"),
    (BASE, ROUTER, f"{PEAL} ports 2 containerPort", 7811, "declares xpub as 7811"),
    (
        BASE, NODE_CONFIG, FILE, swap("listen: 0.0.0.0:8080", "listen: 0.0.0.0:8090"),
        "binds 0.0.0.0:8090",
    ),
    (BASE, NODE_CONFIG, FILE, swap("0.0.0.0:8081", "127.0.0.1:8081"), "where no other pod is"),
    (
        BASE, ROUTER_CONFIG, FILE, swap("xpub: tcp://*:7801", "xpub: tcp://*:7803"),
        "binds tcp://*:7803",
    ),
    (
        BASE, ROUTER_CONFIG, FILE, swap("tcp://*:7802", "tcp://127.0.0.1:7802"),
        "where no other pod is",
    ),
    (BASE, ROUTER, "spec replicas", 3, "cluster.routers is not"),
    (BASE, ROUTER, "spec serviceName", "peal-routers", "cluster.routers is not"),
    (BASE, ROUTER, "metadata name", "router", "cluster.routers is not"),
    (
        BASE, NODE_CONFIG, FILE, swap("router-1.peal-router:7802", "router-7.peal-router:7802"),
        "cluster.routers is not",
    ),
    (
        BASE, NODE_CONFIG, FILE, swap("router-1.peal-router:7801", "router-1.peal-router:7800"),
        "is no xpub",
    ),
    (BASE, ROUTER_CONFIG, FILE, swap("self: auto", "self: 0"), "cluster.self is not auto"),
    (
        BASE, "ConfigMap/peal-router-keys", "data PEAL_CLUSTER__ROUTERS__2__KEY", "x",
        "keys of 3 routers",
    ),
    (BASE, NODE, f"{PEAL} envFrom", [], "keys of 0 routers"),
    (BASE, "NetworkPolicy/peal-node", "spec egress 0 ports 0 port", 7800, "lets it reach xpub"),
    (ZONES, "NetworkPolicy/peal-relay", "spec egress", [], "lets it reach xpub"),
    (
        ZONES, "NetworkPolicy/peal-node-to-relays", "spec egress 0 ports 2 port", 7999,
        "lets it reach tcp://peal-relay:7812",
    ),
    (
        ZONES, NODE, f"{PEAL} envFrom", [{"configMapRef": {"name": "peal-router-keys"}}],
        "has keys of 0 relays",
    ),
    (
        ZONES, "ConfigMap/peal-relay-keys", "data PEAL_CLUSTER__VIA__0__KEY", "x",
        "has another key than the relays",
    ),
    (ZONES, "Service/peal-relay", "metadata name", "relays", "is no door of a relay"),
    (ZONES, NODE_CONFIG, FILE, swap(':7812"', ':7811"'), "no door of a relay for router 2"),
    (ZONES, NODE_CONFIG, FILE, swap(', "tcp://peal-relay:7812"', ""), "not one door per router"),
    (ZONES, RELAY_CONFIG, FILE, swap("tcp://*:7812", "tcp://*:7813"), "binds tcp://*:7813"),
    (ZONES, RELAY_CONFIG, FILE, swap(', "tcp://*:7812"', ""), "port router-2 is either"),
    (BASE, ROUTER_CONFIG, FILE, swap("/var/lib/peal", "/var/lib"), "no claim is mounted"),
    (BASE, ROUTER_CONFIG, FILE, swap("max: 16GiB", "max: 64GiB"), "store.max is more"),
    (
        BASE, ROUTER, "spec volumeClaimTemplates 0 spec resources requests storage", "16Gi",
        "store.max is more",
    ),
    (BASE, ROUTER, f"{PEAL} volumeMounts 3 mountPath", "/data", "no claim is mounted"),
    (BASE, NODE, f"{PEAL} volumeMounts 1 mountPath", "/run/secrets/other", "not in a Secret"),
    (
        BASE, "Secret/peal-node-secrets", "data", {"api.key": "eA=="},
        "token.secret is not in a Secret",
    ),
    (
        BASE, ROUTER_CONFIG, FILE, swap("/etc/peal-peers/peers", "/etc/peal-peers/list"),
        "where no list is",
    ),
    (BASE, NODE_CONFIG, FILE, swap("/run/peal/bus.key", "/run/peal/key"), "the key is copied to"),
    (BASE, ROUTER, "spec replicas", 4, "no bus key peal-router-3.key"),
    (BASE, NODE, f"{POD} initContainers", [], "no init container"),
    (
        BASE, NODE, f"{POD} volumes 3", {"name": "keys", "emptyDir": {"sizeLimit": "1Mi"}},
        "not in memory",
    ),
    (BASE, NODE, f"{POD} terminationGracePeriodSeconds", 30, "middle of the drain"),
    (BASE, NODE_CONFIG, FILE, swap("spread: 20s", "spread: 2m"), "the drain takes 125"),
    (BASE, "Ingress/peal", "metadata annotations", {}, "cuts idle connections"),
    (
        BASE, "Ingress/peal",
        "metadata annotations nginx.ingress.kubernetes.io/proxy-read-timeout", "30",
        "proxy-read-timeout 30 s cuts",
    ),
    (BASE, NODE_CONFIG, FILE, swap("limits:", "limits:\n  ping: 2m"), "cuts idle connections"),
    (BASE, NODE_CONFIG, FILE, swap("connections: 20000", "connections: 2000"), "of 4000 that"),
    (
        BASE, "HorizontalPodAutoscaler/peal-node", "spec metrics 1 pods metric name", "peal_conns",
        "aims at",
    ),
]


def mutant_of(overlay, name, path, value):
    if isinstance(value, tuple):
        text = render_overlay(overlay).get(*name.split("/"))["data"]["peal.yaml"]
        assert value[1] in text
        value = text.replace(value[1], value[2])
    return mutate(render_overlay(overlay), name, path, value)


def ask_again(mutant, workload):
    """What is in force in the pods of one workload, and what the program says of it."""
    alone = Manifests([
        thing for thing in mutant.objects
        if thing["kind"] not in ("Deployment", "StatefulSet") or thing["metadata"]["name"] == workload
    ])
    configs, said = configs_in_force(alone)
    return configs[workload], said[workload]


@needs_namespaces
@pytest.mark.parametrize("overlay, name, path, value, expected", MUTATIONS)
def test_each_disagreement_is_found(overlay, name, path, value, expected):
    mutant = mutant_of(overlay, name, path, value)
    configs = dict(overlay_configs(overlay)[0])
    if name.startswith("ConfigMap/") and isinstance(value, tuple):
        workload = name.removeprefix("ConfigMap/")
        config, said = ask_again(mutant, workload)
        if said != "ok\n":  # the program finds it by itself
            assert said.startswith("peal: configuration: ")
            return
        configs[workload] = config
    if path == "metadata name" and name.startswith("StatefulSet/"):
        configs[value] = configs["peal-router"]
    found = manifest_program.disagreements(mutant, configs, defaults())
    assert any(expected in sentence for sentence in found), found


@needs_namespaces
def test_an_insecure_bus_is_a_disagreement():
    configs = copy.deepcopy(overlay_configs(BASE)[0])
    configs["peal-node"].setdefault("bus", {})["insecure"] = True
    found = manifest_program.disagreements(render_overlay(BASE), configs, defaults())
    assert found == [
        "Deployment/peal-node: bus.insecure: the bus is open to whoever reaches it"
    ]


@needs_namespaces
def test_every_agreement_is_broken_by_a_mutation_above():
    broken = set()
    for overlay, name, path, value, _ in MUTATIONS:
        if isinstance(value, tuple) or path == "metadata name":
            continue
        mutant = mutant_of(overlay, name, path, value)
        for rule in manifest_program.AGREEMENTS:
            if list(rule(mutant, overlay_configs(overlay)[0], defaults())):
                broken.add(rule.__name__)
    assert broken == {rule.__name__ for rule in manifest_program.AGREEMENTS}


@needs_namespaces
@pytest.mark.parametrize("old, new, expected", [
    ("api:", "apii:", 'unknown key "apii"'),
    ("listen: 0.0.0.0:8080", "listen: 8080", "listen"),
    ("/run/secrets/peal/api.key", "/run/secrets/peal/other.key", "other.key"),
    ("alg: HS256", "alg: none", "alg"),
])
def test_the_program_refuses_a_wrong_configuration(old, new, expected):
    mutant = mutant_of(BASE, NODE_CONFIG, FILE, swap(old, new))
    said = run_pods(mutant, "--check")["peal-node"]
    assert said["code"] == 78
    assert expected in said["said"]


# ---- what happens when they are started --------------------------------------------------------


def run_overlay(overlay):
    manifests = Manifests(copy.deepcopy(render_overlay(overlay).objects))
    # The drain has tests of its own; here nobody is there to be sent away.
    config = manifests.get("ConfigMap", "peal-node")["data"]
    config["peal.yaml"] = config["peal.yaml"].replace("5s", "100ms").replace("20s", "100ms")
    report = run_pods(manifests)
    assert "error" not in report, report["error"]
    for name, one in report.items():
        assert list(pod_problems(name, one)) == []
    return manifests, report


@needs_namespaces
def test_one_router_and_one_node_run_in_their_pods():
    manifests, report = run_overlay("overlays/single")
    assert sorted(one["kind"] for one in report.values()) == ["node", "router"]
    node = next(one for one in report.values() if one["kind"] == "node")
    for scaler in manifests.kind("HorizontalPodAutoscaler"):
        for metric in scaler["spec"]["metrics"]:
            if metric["type"] == "Pods":
                assert f"\n{metric['pods']['metric']['name']} " in node["metrics"]


@needs_namespaces
def test_three_routers_a_relay_and_a_node_run_in_their_pods():
    _, report = run_overlay(ZONES)
    kinds = sorted(one["kind"] for one in report.values())
    assert kinds == ["node", "relay", "router", "router", "router"]


@pytest.mark.parametrize("key, value, expected", [
    ("status", {"Uid": "0\t0\t0\t0"}, "runs as"),
    ("ports", [8081, 7800], "listens on [8081, 7800]"),
    ("probes", {"readinessProbe": 503}, "readinessProbe got 503"),
    ("said", "", "said"),
    ("writable", ["/", "/var/lib/peal"], "may write to"),
    ("end", {"code": 1, "seconds": 0}, "ended with 1"),
    ("published", {"status": 503, "answer": ""}, "publish got"),
    ("published", {"status": 200, "answer": '{"ack": "routed"}'}, "publish got"),
])
def test_each_fault_of_a_pod_is_told(key, value, expected):
    fine = {
        "kind": "node",
        "status": {
            "Uid": "10001\t10001\t10001\t10001",
            "Gid": "10001\t10001\t10001\t10001",
            "CapEff": "0000000000000000",
            "CapBnd": "0000000000000000",
            "NoNewPrivs": "1",
        },
        "ports": [8080, 8081],
        "declared": [8080, 8081],
        "probes": {"readinessProbe": 200},
        "said": "peal: ready http://127.0.0.1:8080/\n",
        "writable": [],
        "end": {"code": 0, "seconds": 0.1},
        "published": {"status": 200, "answer": '{"ack": "stored"}'},
    }
    assert list(pod_problems("peal-node", fine)) == []
    (problem,) = pod_problems("peal-node", {**fine, key: value})
    assert expected in problem


@needs_namespaces
@pytest.mark.parametrize("name, path, value, expected", [
    (ROUTER, f"{PEAL} volumeMounts 3 readOnly", True, "Read-only file system"),
    (NODE, f"{INIT} command 3", "/run/secrets/peal-bus/other.key", "cannot stat"),
    (NODE, f"{INIT} volumeMounts 1 readOnly", True, "Read-only file system"),
    (NODE, f"{PEAL} volumeMounts 1 mountPath", "/run/secrets/other", "api.key cannot be read"),
])
def test_a_pod_that_cannot_work_does_not_start(name, path, value, expected):
    mutant = mutate(render_overlay("overlays/single"), name, path, value)
    report = run_pods(mutant)
    assert expected in report["error"]
