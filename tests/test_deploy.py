"""What is in deploy/ and compose.yaml: valid, and each path, port, setting and metric is one that the server has."""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPSConnection
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate
import pytest
import yaml

import nlp_app
from serving import container
from serving.settings import Settings
from tests.conftest import ROOT, TEXTS
from tests.test_serving_main import call, server, wait_until_ready
from tests.test_serving_workers import ask, free_port, serving, wait_for_workers

DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes"
EXAMPLES = BASE / "examples"
VERSIONS = ("1.33", "1.37")
"""Of Kubernetes, the oldest and the newest that the manifests are checked against."""
KILLED_AFTER_S = 5
"""A worker that has not ended when the server's time is over is killed so much later (serving/supervisor.py)."""
KEEP_ALIVE_S = 5
"""Seconds after which uvicorn closes a connection that is idle."""
KINDS = {".yaml", ".yml", ".json", ".conf"}
OURS = [ROOT / "compose.yaml", *sorted(path for path in DEPLOY.rglob("*") if path.suffix in KINDS)]
Manifest = dict[str, Any]
ANY: Any = "any"
"""The folder of a checkpoint that nobody loads."""


def documents(path: Path) -> list[Manifest]:
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def kustomized(folder: Path) -> Manifest:
    [found] = documents(folder / "kustomization.yaml")
    return found


def config_maps(kustomization: Manifest) -> list[Manifest]:
    """Of the generator, without the digest that kustomize puts behind a name."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": one["name"]},
            "data": dict(literal.split("=", 1) for literal in one["literals"]),
        }
        for one in kustomization.get("configMapGenerator", [])
    ]


def rendered() -> list[Manifest]:
    """The base. It asks kustomize for a ConfigMap and nothing else, so that its files are what is applied."""
    base = kustomized(BASE)
    assert set(base) == {"apiVersion", "kind", "resources", "configMapGenerator"}
    return config_maps(base) + [one for name in base["resources"] for one in documents(BASE / name)]


def by_kind(kind: str, name: str = "nlp-app") -> Manifest:
    [found] = [one for one in rendered() if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def pod_of(manifest: Manifest) -> Manifest:
    """The pod of a Deployment or an InferenceService."""
    spec: Manifest = manifest["spec"]
    found: Manifest = spec["template"]["spec"] if manifest["kind"] == "Deployment" else spec["predictor"]
    return found


INFERENCE_SERVICE = documents(EXAMPLES / "inferenceservice.yaml")[0]
WORKLOADS = [pytest.param(by_kind("Deployment"), id="base"), pytest.param(INFERENCE_SERVICE, id="kserve")]
CORE = [*rendered(), *documents(EXAMPLES / "model-volume" / "claim.yaml")]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", CORE, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_each_manifest_is_valid(manifest: Manifest, version: str) -> None:
    assert kubernetes_validate.validate(manifest, version, strict=True) == version


def test_a_manifest_with_a_field_that_there_is_not_is_none() -> None:
    broken = by_kind("Service")
    broken["spec"]["prots"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


NOT_RUN = [path for path in EXAMPLES.rglob("*.yaml") if path.name != "claim.yaml"]


@pytest.mark.parametrize("path", NOT_RUN, ids=lambda one: one.name)
def test_an_example_says_that_it_was_not_run(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# NOT RUN HERE: ")
    assert all({"apiVersion", "kind"} <= set(one) for one in documents(path))


def sorted_manifests(found: list[Manifest]) -> list[Manifest]:
    return sorted(found, key=lambda one: (one["kind"], one["metadata"]["name"]))


def kubectl(folder: Path) -> list[Manifest]:
    """What kustomize makes of a folder, its ConfigMap's digest left out."""
    made = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True).stdout
    return [one for one in yaml.safe_load_all(re.sub(r"\bnlp-app-[0-9a-z]{10}$", "nlp-app", made, flags=re.M)) if one]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="there is no kubectl")
def test_kustomize_renders_what_is_checked_here() -> None:
    assert sorted_manifests(kubectl(BASE)) == sorted_manifests(rendered())


@pytest.mark.skipif(not shutil.which("kubectl"), reason="there is no kubectl")
def test_the_model_can_come_from_a_volume(tmp_path: Path) -> None:
    shutil.copytree(BASE, tmp_path / "base")
    (tmp_path / "kustomization.yaml").write_text("resources: [base]\ncomponents: [base/examples/model-volume]\n")
    found = {one["kind"]: one for one in kubectl(tmp_path)}
    for manifest in found.values():
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
    pod = pod_of(found["Deployment"])
    [mount] = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "models"]
    [volume] = [one for one in pod["volumes"] if one["name"] == "models"]
    assert volume["persistentVolumeClaim"]["claimName"] == found["PersistentVolumeClaim"]["metadata"]["name"]
    assert mount["readOnly"]
    assert volume["persistentVolumeClaim"]["readOnly"]
    checkpoint = found["ConfigMap"]["data"]["NLP_APP_CHECKPOINT"]
    assert Path(checkpoint).parent == Path(mount["mountPath"]), "a folder in the volume, so that it can be swapped"


class Running(NamedTuple):
    """A server with the environment of the Deployment."""

    ports: dict[int, str]
    """The addresses of the manifest's ports."""
    metrics: str
    """What it tells Prometheus."""


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Of the Deployment's container."""
    [settings] = pod_of(by_kind("Deployment"))["containers"][0]["envFrom"]
    found: dict[str, str] = by_kind("ConfigMap", settings["configMapRef"]["name"])["data"]
    return found


@pytest.fixture(scope="module")
def running(shared_checkpoint: Path, environment: dict[str, str]) -> Iterator[Running]:
    with serving("--checkpoint", shared_checkpoint, **environment) as (_, address, admin):
        wait_for_workers(admin, 1)
        assert call(f"{address}/predict", {"inputs": TEXTS})[0] == 200
        ports = {int(environment["NLP_APP_PORT"]): address, int(environment["NLP_APP_ADMIN_PORT"]): admin}
        yield Running(ports, ask(f"{admin}/metrics")[1])


PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def probed(manifest: Manifest, probe: str) -> tuple[int, str]:
    """The port and the path that a probe asks."""
    [container] = pod_of(manifest)["containers"]
    asked = container[probe]["httpGet"]
    named = {one["name"]: one["containerPort"] for one in container["ports"]}
    return named.get(asked["port"], asked["port"]), asked["path"]


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("manifest", WORKLOADS)
def test_each_probe_is_answered(manifest: Manifest, probe: str, running: Running) -> None:
    port, path = probed(manifest, probe)
    assert ask(running.ports[port] + path)[0] == 200


@pytest.mark.parametrize("manifest", WORKLOADS)
def test_probes_before_the_model_is_there(
    manifest: Manifest, shared_checkpoint: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Not started, not ready, and not killed for it; then all is well."""
    program = (
        "import time; from pathlib import Path; import serving.__main__ as s; from serving.inference import Inference\n"
        "load = Inference._load\n"
        "def wait(self):\n"
        f"    while not Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.01)\n"
        "    return load(self)\n"
        "Inference._load = wait; s.main()"
    )
    arguments = ["--checkpoint", str(shared_checkpoint), "--port", "0", "--admin-port", "0"]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **environment},
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            address = re.search(r"http://[\d.:]+", process.stdout.readline())[0]  # type: ignore[index]
            while not ask(f"{address}/health/live")[0]:
                pass
            statuses = [ask(address + probed(manifest, probe)[1])[0] for probe in PROBES]
            assert statuses == [503, 503, 200]
            (tmp_path / "go").touch()
            wait_until_ready(address)
            assert [ask(address + probed(manifest, probe)[1])[0] for probe in PROBES] == [200, 200, 200]
        finally:
            process.kill()


def test_a_pod_that_ends_answers_until_its_clients_know(environment: dict[str, str]) -> None:
    pod = pod_of(by_kind("Deployment"))
    waits = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > waits + seconds_to_finish(environment)
    assert pod_of(INFERENCE_SERVICE)["terminationGracePeriodSeconds"] > waits + seconds_to_finish({})


def seconds_to_finish(environment: dict[str, str]) -> float:
    """That a server with these settings may take after SIGTERM."""
    values = {name.removeprefix("NLP_APP_").lower(): value for name, value in environment.items()}
    return Settings(**{"checkpoint": ANY, **values}).seconds_to_finish + KILLED_AFTER_S


@pytest.mark.parametrize("manifest", WORKLOADS)
def test_a_pod_may_do_nothing_but_serve(manifest: Manifest) -> None:
    pod = pod_of(manifest)
    [container] = pod["containers"]
    user = int(re.findall(r"^USER (\d+):\d+$", (ROOT / "Dockerfile").read_text(), re.M)[-1])
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": user, "runAsGroup": user, "seccompProfile": {"type": "RuntimeDefault"}
    }  # fmt: skip
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    assert {"cpu", "memory"} == set(container["resources"]["requests"]) == set(container["resources"]["limits"])
    assert container["image"] == f"nlp-app:{nlp_app.__version__}"
    [tmp] = pod["volumes"]
    assert tmp["emptyDir"]["medium"] == "Memory"
    assert container["volumeMounts"] == [{"name": tmp["name"], "mountPath": "/tmp"}]


@pytest.mark.parametrize("manifest", WORKLOADS)
def test_a_service_s_variables_are_no_settings(manifest: Manifest) -> None:
    """A Service nlp-app gives pods NLP_APP_PORT, which ends a server that takes it for its own."""
    assert pod_of(manifest)["enableServiceLinks"] is False
    with pytest.raises(ValueError, match="valid integer"):
        Settings(checkpoint=ANY, port="tcp://10.0.0.1:8000")


def test_everything_selects_the_pods_that_there_are() -> None:
    deployment = by_kind("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    spread = pod_of(deployment)["topologySpreadConstraints"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        by_kind("Service")["spec"]["selector"],
        by_kind("Service", "nlp-app-metrics")["spec"]["selector"],
        by_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        by_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(one["labelSelector"]["matchLabels"] for one in spread),
    ]
    assert all(one and one.items() <= labels.items() for one in selectors)
    scaled = by_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert "replicas" not in deployment["spec"], "the autoscaler's"
    [monitor] = documents(EXAMPLES / "servicemonitor.yaml")
    told = by_kind("Service", "nlp-app-metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= told["metadata"]["labels"].items()
    assert [one["port"] for one in monitor["spec"]["endpoints"]] == [one["name"] for one in told["spec"]["ports"]]
    assert told["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "nlp-app", "the job that the alerts name"


def test_ports_have_the_names_that_others_use(environment: dict[str, str]) -> None:
    ports = {one["name"]: one["containerPort"] for one in pod_of(by_kind("Deployment"))["containers"][0]["ports"]}
    assert ports == {"http": int(environment["NLP_APP_PORT"]), "metrics": int(environment["NLP_APP_ADMIN_PORT"])}
    for name in ("nlp-app", "nlp-app-metrics"):
        [port] = by_kind("Service", name)["spec"]["ports"]
        assert ports[port["targetPort"]] == port["port"]
    everybody, prometheus = by_kind("NetworkPolicy")["spec"]["ingress"]
    assert "from" not in everybody
    assert [one["port"] for one in everybody["ports"]] == ["http"]
    assert prometheus["from"]
    assert [one["port"] for one in prometheus["ports"]] == ["metrics"]
    assert by_kind("NetworkPolicy")["spec"]["egress"] == []


@pytest.mark.parametrize("path", [*OURS, ROOT / "docs" / "deployment.md"], ids=lambda one: one.name)
def test_each_setting_is_one_of_the_server_s(path: Path) -> None:
    named = set(re.findall(r"\bNLP_APP_([A-Z_]+)\b", path.read_text(encoding="utf-8")))
    assert named <= {name.upper() for name in Settings.model_fields}


METRIC = re.compile(r"\bnlp_app_[a-z_]+\b")
TELL = [path for path in OURS if {"prometheus", "grafana", "examples"} & set(path.parts)]


def families(text: str) -> dict[str, set[str]]:
    """The names of the samples of each metric, of what Prometheus is told."""
    suffixes = {"histogram": ("_bucket", "_sum", "_count")}
    kinds = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M)
    return {name: {name + one for one in suffixes.get(kind, ("",))} for name, kind in kinds}


@pytest.mark.parametrize("path", TELL, ids=lambda one: one.name)
def test_each_metric_is_one_that_the_server_tells(path: Path, running: Running) -> None:
    known = set().union(*families(running.metrics).values())
    assert set(METRIC.findall(path.read_text(encoding="utf-8"))) <= known


DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "nlp-app.json").read_text(encoding="utf-8"))
ALERTS = [one for group in documents(DEPLOY / "prometheus" / "alerts.yml")[0]["groups"] for one in group["rules"]]
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_the_dashboard_shows_every_metric(running: Running) -> None:
    shown = set(METRIC.findall(" ".join(QUERIES)))
    assert not [name for name, samples in families(running.metrics).items() if not samples & shown]


@pytest.mark.parametrize("query", [*QUERIES, *(one["expr"] for one in ALERTS)])
def test_a_query_groups_by_labels_that_there_are(query: str, running: Running) -> None:
    known = {"instance", "job", "outcome", *re.findall(r"[{,]([a-z]+)=", running.metrics)}
    grouped = {name for names in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for name in names.split(", ")}
    assert grouped | set(re.findall(r"[{ ]([a-z_]+)=", query)) <= known


def test_the_dashboard_is_one_that_grafana_finds_and_draws() -> None:
    [source] = documents(DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yaml")[0]["datasources"]
    sources = [part["datasource"]["uid"] for panel in DASHBOARD["panels"] for part in (panel, *panel["targets"])]
    assert set(sources) == {source["uid"]}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(one["x"] + one["w"] <= 24 for one in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    [provider] = documents(DEPLOY / "grafana" / "provisioning" / "dashboards" / "nlp-app.yaml")[0]["providers"]
    mounted = dict(volume.split(":")[1::-1] for volume in COMPOSE["services"]["grafana"]["volumes"])
    assert mounted[provider["options"]["path"]] == "./deploy/grafana/dashboards"


@pytest.mark.skipif(not shutil.which("promtool"), reason="there is no promtool")
def test_the_alerts_do_what_they_say() -> None:
    for arguments in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts-test.yml"]):
        done = subprocess.run(["promtool", *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_documentation_tells_what_to_do_at_each_alert() -> None:
    text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert [one["alert"] for one in ALERTS] == re.findall(r"^\| `(NlpApp\w+)`", text, re.M)


[COMPOSE] = documents(ROOT / "compose.yaml")
SERVICE = COMPOSE["services"]["nlp-app"]


def interpolated(value: str, **variables: str) -> str:
    """What compose makes of ${NAME:-otherwise} and ${NAME:+then}."""

    def put(found: re.Match[str]) -> str:
        name, sign, other = found.groups()
        given = variables.get(name, "")
        return (given or other) if sign == "-" else (given and other)

    return re.sub(r"\$\{(\w+):([-+])([^}]*)\}", put, value)


def test_compose_hardens_the_server() -> None:
    assert SERVICE["read_only"] is True
    assert SERVICE["cap_drop"] == ["ALL"]
    assert SERVICE["security_opt"] == ["no-new-privileges:true"]
    assert [one.split(":")[0] for one in SERVICE["tmpfs"]] == ["/tmp"]
    assert SERVICE["mem_limit"] == SERVICE["memswap_limit"]
    assert SERVICE["cpus"] > 0
    assert SERVICE["pids_limit"] > 0
    assert SERVICE["restart"] == "unless-stopped"
    assert SERVICE["image"] == f"nlp-app:{nlp_app.__version__}"
    assert "healthcheck" not in SERVICE, "it is the image's own"
    assert "\nHEALTHCHECK " in (ROOT / "Dockerfile").read_text()
    assert all(volume.endswith(":ro") for volume in SERVICE["volumes"])


def test_compose_waits_for_the_server_to_finish() -> None:
    environment = {name: value for name, value in SERVICE["environment"].items() if name != "NLP_APP_CHECKPOINT"}
    assert int(SERVICE["stop_grace_period"].removesuffix("s")) > seconds_to_finish(environment)


def test_compose_publishes_the_port_of_predictions_alone() -> None:
    assert [interpolated(one) for one in SERVICE["ports"]] == ["8000:8000"]
    assert [interpolated(one, PUBLISH="127.0.0.1:80") for one in SERVICE["ports"]] == ["127.0.0.1:80:8000"]
    [scraped] = documents(DEPLOY / "prometheus" / "prometheus.yml")[0]["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": [f"nlp-app:{SERVICE['environment']['NLP_APP_ADMIN_PORT']}"]}]
    others = [one for name, one in COMPOSE["services"].items() if name != "nlp-app"]
    assert all(one["profiles"] == ["monitoring"] for one in others)
    assert all(port.startswith("127.0.0.1:") for one in others for port in one["ports"])


def test_compose_serves_a_model_or_the_sample() -> None:
    checkpoint, [volume] = SERVICE["environment"]["NLP_APP_CHECKPOINT"], SERVICE["volumes"]
    assert interpolated(checkpoint) == str(container.SAMPLE)
    assert interpolated(volume).split(":")[0] in COMPOSE["volumes"], "a volume, so that no folder need be there"
    assert interpolated(volume, MODELS_DIR="./models") == "./models:/models:ro"
    assert interpolated(checkpoint, MODEL="tickets") == "/models/tickets"


def test_compose_mounts_files_that_are_there() -> None:
    mounted = [volume.split(":")[0] for one in COMPOSE["services"].values() for volume in one["volumes"]]
    files = [one for one in mounted if one.startswith("./")]
    assert len(files) == 4
    assert all((ROOT / one).exists() for one in files)


NAMES = {
    "0.0.0.0", "127.0.0.1", "10.0.0.1", "nlp.example.com", "prometheus.monitoring.svc",
    "app.kubernetes.io", "kubernetes.io", "topology.kubernetes.io", "kustomize.config.k8s.io", "networking.k8s.io",
    "monitoring.coreos.com", "keda.sh", "serving.kserve.io",
}  # fmt: skip
"""Of hosts that are none of the world's, and of groups of Kubernetes' interfaces."""


@pytest.mark.parametrize("path", OURS, ids=lambda one: one.name)
def test_no_file_names_the_host_of_a_registry(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"\b(?:[a-z0-9-]+\.)+(?:io|com|org|net|dev|sh|svc|cloud|cr)\b", text)
    assert set(found) <= NAMES
    images = re.findall(r"^\s*(?:- )?image: *(\S+)", text, re.M)
    assert not [one for one in images if re.search(r"[.:]|^localhost$", one.rpartition("/")[0])]


def test_nginx_bounds_what_the_server_bounds() -> None:
    text = (DEPLOY / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    settings = Settings(checkpoint=ANY)
    assert f"client_max_body_size {settings.max_body_bytes >> 20}m;" in text
    assert f"the body has more than {settings.max_body_bytes} bytes" in text
    assert f"client_header_timeout {settings.header_timeout_s:.0f}s;" in text
    assert f"client_body_timeout {settings.body_timeout_s:.0f}s;" in text
    seconds = {name: int(value) for name, value in re.findall(r"(\w+) (\d+)s;", text)}
    assert seconds["proxy_read_timeout"] > settings.request_timeout_s
    assert seconds["proxy_timeout"] > settings.request_timeout_s
    assert seconds["keepalive_timeout"] < KEEP_ALIVE_S


MODULES = Path("/usr/lib/nginx/modules")


class Proxy(NamedTuple):
    """nginx in front of a server."""

    port: int
    stream_port: int
    context: ssl.SSLContext
    server: subprocess.Popen[str]

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        with closing(HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=60)) as connection:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.load(answer)


@pytest.fixture
def proxy(shared_checkpoint: Path, tmp_path: Path) -> Iterator[Proxy]:
    """The file as it is, but for ports, the certificate, and where nginx may write."""
    certificate = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=nlp.example.com")
    files = ("-keyout", tmp_path / "privkey.pem", "-out", tmp_path / "fullchain.pem")
    subprocess.run(["openssl", *certificate, *files], check=True, capture_output=True)
    (tmp_path / "modules").symlink_to(MODULES)
    text = (DEPLOY / "nginx" / "nginx.conf").read_text(encoding="utf-8").replace("/etc/nginx/tls", str(tmp_path))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    text = text.replace("server_tokens off;", " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds))
    ports = {port: free_port() for port in (80, 443, 8443)}
    for port, ours in ports.items():
        text = re.sub(rf"listen {port}\b", f"listen 127.0.0.1:{ours}", text)
    context = ssl.create_default_context(cafile=tmp_path / "fullchain.pem")
    context.check_hostname = False
    with server("--checkpoint", shared_checkpoint) as (process, address):
        wait_until_ready(address)
        (tmp_path / "nginx.conf").write_text(text.replace("127.0.0.1:8000;", f"{address.removeprefix('http://')};"))
        command: list[str | Path] = ["nginx", "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "errors"]
        command += ["-g", f"daemon off; pid {tmp_path}/pid;"]
        tested = subprocess.run([*command, "-t"], capture_output=True, text=True)
        assert tested.returncode == 0, tested.stderr
        with subprocess.Popen(command) as nginx:
            try:
                wait_until_it_listens(ports[443])
                yield Proxy(ports[443], ports[8443], context, process)
            finally:
                nginx.terminate()


def wait_until_it_listens(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.01)
        else:
            return


@pytest.mark.skipif(
    not (shutil.which("nginx") and shutil.which("curl") and (MODULES / "ngx_stream_module.so").exists()),
    reason="there is no nginx with its stream module, or no curl",
)
def test_nginx_in_front(proxy: Proxy) -> None:
    def body(size: int) -> bytes:
        return json.dumps({"inputs": TEXTS}).encode().ljust(size)

    most = Settings(checkpoint=ANY).max_body_bytes
    status, answer = proxy.post("/predict", body(most))
    assert status == 200
    assert len(answer["predictions"]) == len(TEXTS)
    assert proxy.post("/predict", body(most + 1)) == (413, {"detail": f"the body has more than {most} bytes"})
    assert proxy.post("/predict/stream", b"{}") == (404, {"detail": "streams are at port 8443"})

    lines = b"".join(json.dumps({"inputs": TEXTS[number % 6]}).encode() + b"\n" for number in range(200_000))
    curl = ["curl", "--silent", "--show-error", "--insecure", "--max-time", "300", "--upload-file", "-", "--request"]
    curl += ["POST", "--header", "Content-Type: application/x-ndjson"]
    address = f"https://127.0.0.1:{proxy.stream_port}/predict/stream"
    done = subprocess.run([*curl, address], input=lines, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"\n") == 200_000, "nginx's HTTP proxy stands still in the middle of as many"

    proxy.server.terminate()
    proxy.server.wait()
    assert proxy.post("/predict", body(0)) == (503, {"detail": "the server does not answer: try again"})


@pytest.mark.parametrize("name", ["serving", "onnx", "training", "torch", "cuda", "sbom"])
def test_locked_packages_are_those_of_the_constraints_and_have_hashes(name: str) -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    lock = (DEPLOY / "locks" / f"{name}.txt").read_text()
    entries = re.findall(r"^([\w.-]+)==(\S+).*((?:\n .*)*)", lock, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^\S", lock, re.MULTILINE)) > 0
    assert all("--hash=sha256:" in hashes for _, _, hashes in entries)
    assert {package: version for package, version, _ in entries if pinned.get(package, version) != version} == {}


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").iterdir()), ids=lambda path: path.name)
def test_a_workflow_calls_what_there_is(path: Path) -> None:
    [workflow] = documents(path)
    steps = [step for job in workflow["jobs"].values() for step in job.get("steps", [])]
    commands = " ".join(step.get("run", "") for step in steps)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", commands)) <= targets
    assert all((ROOT / script).is_file() for script in re.findall(r"deploy/\w+\.sh", commands))
    stages = set(re.findall(r"^FROM .* AS ([a-z-]+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    matrices = [job["strategy"]["matrix"]["include"] for job in workflow["jobs"].values() if "strategy" in job]
    assert {one["target"] for matrix in matrices for one in matrix} <= stages
    called = [job["uses"] for job in workflow["jobs"].values() if "uses" in job]
    assert all((ROOT / one).is_file() for one in called)
