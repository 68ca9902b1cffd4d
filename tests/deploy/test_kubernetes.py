"""The manifests for Kubernetes are valid, name only what is there, and start programs as docker-compose.yml does."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click import Context

from classify_client.cli.main import main as client
from classify_training.cli.main import main as train

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
FOLDERS = ("base", "gpu", "classify")
VERSIONS = ("1.31", kubernetes_validate.latest_version())
"""The oldest version of Kubernetes in which everything that is used is stable, and the latest that is known here."""

Object = dict[str, Any]


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


def _pods(objects: list[Object]) -> Iterator[Object]:
    return (each["spec"]["template"]["spec"] for each in objects if each["kind"] in {"Deployment", "Job"})


def _containers(objects: list[Object]) -> Iterator[Object]:
    for pod in _pods(objects):
        yield from (*pod.get("initContainers", ()), *pod["containers"])


def _container(name: str, folder: str = "base") -> Object:
    (found,) = (each for each in _containers(_built(folder)) if each["name"] == name)
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_api_of_kubernetes_accepts_every_object(folder: str, version: str) -> None:
    for each in _built(folder):
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
    objects = _built("base") + _built("classify")
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
    context = client.make_context("classify-client", _container("client", "classify")["args"], Context(client))
    assert context.params["servers"] == ("serving:8500",)


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
