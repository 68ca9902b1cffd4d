"""The manifests for Kubernetes are valid, name only what is there, and start programs as docker-compose.yml does."""

import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml
from click import Context

from classify_client.cli.main import main as client
from classify_client.cluster.machines.connection import LEAST_CPUS
from classify_training.cli.main import main as train

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
FOLDERS = ("base", "gpu", "classify", "ray")
VERSIONS = ("1.31", kubernetes_validate.latest_version())
"""The oldest version of Kubernetes in which everything that is used is stable, and the latest that is known here."""

Object = dict[str, Any]

TEXTS: Final = {str: str}
"""Any names, with texts."""
GROUP: Final = {"rayStartParams": TEXTS, "template": dict}
RAY_JOB: Final = {
    "submissionMode": str,
    "backoffLimit": int,
    "jobId": str,
    "entrypoint": str,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "rayClusterSpec": {
        "rayVersion": str,
        "authOptions": {"mode": str},
        "headGroupSpec": GROUP,
        "workerGroupSpecs": [GROUP | {"groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int}],
    },
}
"""The fields of KubeRay 1.5.1's RayJob that are used here: rayjob_types.go and raycluster_types.go there."""


def _read(path: Path) -> list[Object]:
    return list(yaml.safe_load_all(path.read_text()))


def _built(name: str) -> list[Object]:
    """What `kubectl kustomize` makes of a folder here, as far as these folders need it: resources, patches, images."""
    (kustomization,) = _read(FOLDER / name / "kustomization.yaml")
    objects: list[Object] = []
    for resource in kustomization["resources"]:
        path = FOLDER / name / resource
        if path.is_file():
            objects += _read(path)
        elif path.resolve().parent == FOLDER:
            objects += _built(path.resolve().name)
        else:
            (generator,) = _read(path / "kustomization.yaml")
            objects += [_config_map(path, each) for each in generator["configMapGenerator"]]
    for patch in kustomization.get("patches", ()):
        for change in _read(FOLDER / name / patch["path"]):
            (target,) = (each for each in objects if _identity(each) == _identity(change))
            if change.get("$patch") == "delete":
                objects.remove(target)
            else:
                _merge(target, change)
    for image in kustomization["images"]:
        used = [each for each in _containers(objects) if each["image"].partition(":")[0] == image["name"]]
        assert used, image
        for each in used:
            tag = image.get("newTag", each["image"].partition(":")[2])
            each["image"] = f"{image.get('newName', image['name'])}:{tag}"
    return objects


def _config_map(folder: Path, generator: Object) -> Object:
    data = {name: (folder / name).read_text() for name in generator["files"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data}


def _identity(each: Object) -> tuple[str, str]:
    return each["kind"], each["metadata"]["name"]


def _merge(target: Object, change: Mapping[str, Any]) -> None:
    """A strategic merge: lists of objects with names are merged by these, all others are replaced."""
    for key, value in change.items():
        if isinstance(value, dict) and key in target:
            _merge(target[key], value)
        elif isinstance(value, list) and all(isinstance(each, dict) for each in value) and key in target:
            named = {each["name"]: each for each in target[key]}
            for each in value:
                if each["name"] in named:
                    _merge(named[each["name"]], each)
                else:
                    target[key].append(each)
        else:
            target[key] = value


def _templates(each: Object) -> Iterator[Object]:
    """The templates of the pods that an object makes."""
    if each["kind"] in {"Deployment", "Job"}:
        yield each["spec"]["template"]
    elif each["kind"] == "RayJob":
        cluster = each["spec"]["rayClusterSpec"]
        yield from (group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]))


def _pods(objects: list[Object]) -> Iterator[Object]:
    return (template["spec"] for each in objects for template in _templates(each))


def _containers(objects: list[Object]) -> Iterator[Object]:
    for pod in _pods(objects):
        yield from (*pod.get("initContainers", ()), *pod["containers"])


def _container(name: str, folder: str = "base") -> Object:
    (found,) = (each for each in _containers(_built(folder)) if each["name"] == name)
    return found


def _ray_job() -> Object:
    """The fields of the RayJob."""
    (found,) = (each["spec"] for each in _built("ray") if each["kind"] == "RayJob")
    assert isinstance(found, dict)
    return found


def _check(value: object, kind: object) -> None:
    """Check names and types of fields: a type, a list of one of them, or names with a kind each."""
    if isinstance(kind, list):
        assert isinstance(value, list)
        for each in value:
            _check(each, kind[0])
    elif isinstance(kind, dict):
        assert isinstance(value, dict)
        for name, part in value.items():
            assert name in kind or str in kind, name
            _check(part, kind.get(name, kind.get(str)))
    else:
        assert type(value) is kind, value


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_api_of_kubernetes_accepts_every_object(folder: str, version: str) -> None:
    for each in _built(folder):
        # The kinds of KubeRay are not in that API, but their pods are.
        if each["apiVersion"].startswith("ray.io/"):
            for template in _templates(each):
                pod = {"apiVersion": "v1", "kind": "Pod", "metadata": each["metadata"], "spec": template["spec"]}
                kubernetes_validate.validate(pod, version, strict=True)
        else:
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_volume_exists_and_every_image_has_a_version(folder: str) -> None:
    objects = _built(folder)
    names = {_identity(each) for each in objects}
    for pod in _pods(objects):
        volumes = {each["name"]: each for each in pod["volumes"]}
        for each in volumes.values():
            if "persistentVolumeClaim" in each:
                assert ("PersistentVolumeClaim", each["persistentVolumeClaim"]["claimName"]) in names
            if "configMap" in each:
                assert ("ConfigMap", each["configMap"]["name"]) in names
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
            assert container["image"].rpartition(":")[2] not in {"", "latest"}


def test_pods_run_without_rights() -> None:
    objects = _built("base") + _built("classify") + _built("ray")
    assert all(pod["securityContext"]["runAsNonRoot"] for pod in _pods(objects))
    for container in _containers(objects):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_our_commands_understand_their_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset").mkdir()
    command, *arguments = _container("training")["args"]
    context = train.commands[command].make_context(command, arguments)
    assert (context.params["output"], context.params["runs"]) == (Path("models/classifier"), Path("models/runs"))
    python, module, name, *job_arguments = shlex.split(_ray_job()["entrypoint"])
    assert (python, module, name) == ("python3", "-m", "classify_client")
    for arguments in (_container("client", "classify")["args"], job_arguments):
        context = client.make_context("classify-client", list(arguments), Context(client))
        assert context.params["servers"] == ("serving:8500",)
        assert context.params["output"] == Path("classified")
    assert context.params["ray"] == "auto"


@pytest.mark.parametrize(("folder", "service"), [("base", "serving"), ("gpu", "serving-gpu")])
def test_servers_have_the_flags_of_compose(folder: str, service: str) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][service]
    flags = shlex.split(compose["command"].partition("${")[0])
    container = _container("tensorflow-serving", folder)
    assert container["args"] == flags
    (config,) = (each for each in _built(folder) if each["kind"] == "ConfigMap")
    for flag in flags:
        _, _, file = flag.partition("=/config/")
        assert not file or file in config["data"]
    version = compose["image"].partition(":-")[2].replace("}", "")
    assert container["image"] == f"tensorflow/serving:{version}"


def test_kuberay_knows_the_fields_of_the_job() -> None:
    job = _ray_job()
    _check(job, RAY_JOB)
    # Another mode would need a pod that hands the job in, and would not do so again if the head is lost.
    assert job["submissionMode"] == "HTTPMode"
    (worker,) = job["rayClusterSpec"]["workerGroupSpecs"]
    assert worker["minReplicas"] <= worker["replicas"] <= worker["maxReplicas"]


def test_ray_reads_the_cluster_as_it_is_meant() -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
    from ray.scripts.scripts import start

    cluster = _ray_job()["rayClusterSpec"]
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text().splitlines()
    config = _derive_autoscaling_config_from_ray_cr(
        {"metadata": {"name": "cluster", "namespace": "classifier"}, "spec": cluster}
    )
    head, *workers = (each["resources"] for each in config["available_node_types"].values())
    # A new head must be enough to go on, or the command ends with an exit code that is not tried again.
    assert head["CPU"] >= LEAST_CPUS
    assert all(worker["CPU"] == head["CPU"] for worker in workers)
    options = {name.removeprefix("--") for option in start.params for name in option.opts}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert set(group["rayStartParams"]) <= options


def test_the_containers_of_ray_need_no_program_for_their_probes() -> None:
    for pod in _pods(_built("ray")):
        (container,) = pod["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert "httpGet" in container[probe]
        (shm,) = (each["name"] for each in container["volumeMounts"] if each["mountPath"] == "/dev/shm")
        (memory,) = (each["emptyDir"] for each in pod["volumes"] if each["name"] == shm)
        assert memory["medium"] == "Memory"


def test_the_image_of_the_cluster_is_that_of_compose_and_can_take_jobs() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["ray-head"]
    assert {each["image"].partition(":")[0] for each in _containers(_built("ray"))} == {compose["image"]}
    parts = (ROOT / "serving", f"{ROOT / 'client'}{compose['build']['args']['EXTRA']}")
    requirements = subprocess.run(
        [sys.executable, ROOT / "serving" / "container" / "dependencies.py", *parts],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout.splitlines()  # fmt: skip
    assert {line.partition(">")[0] for line in requirements} >= {"ray[data]", "ray[default]", "pyarrow", "grpcio"}
