"""docker compose from an empty project to results, then new versions, failures and TLS; the tests run in order."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers.compose import OWNER, ROOT, Project, documented_commands, tensorflow_serving, wait_for

pytestmark = pytest.mark.containers
PAGE = ROOT / "docs/serving.md"


def rows(project: Project) -> list[dict[str, str]]:
    with (project.folder / "classified/predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def many_images(project: Project, copies: int) -> int:
    """Make the folder `images/many` with `copies` copies of the images of one class; returns the number of files."""
    files = sorted((project.folder / "images/two").iterdir())
    for copy in range(copies):
        folder = project.folder / f"images/many/{copy:03}/two"
        folder.mkdir(parents=True)
        for path in files:
            os.link(path, folder / path.name)
    project.own(project.folder / "images/many")
    return copies * len(files)


def classify_many(project: Project, log: Path) -> "subprocess.Popen[bytes]":
    """Start a client run that takes a while; it is running when this function returns."""
    shutil.rmtree(project.folder / "classified/many", ignore_errors=True)
    command = "docker compose run --rm -T --no-deps client /images/many --output /classified/many --batch-size 16"
    client = project.start(f"{command} --overwrite", log)
    results = project.folder / "classified/many/predictions.csv"
    wait_for("the first results", lambda: results.is_file() and len(results.read_bytes().splitlines()) > 50)
    return client


def finished(client: "subprocess.Popen[bytes]", log: Path, project: Project, images: int) -> set[str]:
    """Wait for the client, check that every image was classified, and return the versions that answered."""
    assert client.wait() == 0, log.read_text()
    summary = json.loads((project.folder / "classified/many/summary.json").read_text())
    assert (summary["images"], summary["failed"], summary["complete"]) == (images, 0, True)
    return set(summary["model"]["versions"])


@pytest.fixture(scope="module")
def images(project: Project) -> int:
    return many_images(project, 250)


@pytest.fixture(scope="module")
def up(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The output of `docker compose up`, which keeps running."""
    log = tmp_path_factory.mktemp("up") / "log"
    # `up` alone would use existing images, which may have been built from other code.
    built = project.run("docker compose build")
    assert built.returncode == 0, built.stderr
    process = project.start("docker compose up", log)
    wait_for("the client", lambda: b"client-1 exited with code" in log.read_bytes() or process.poll() is not None)
    yield log
    process.send_signal(signal.SIGINT)
    process.wait()


def test_from_an_empty_project_to_results(project: Project, up: Path) -> None:
    output = up.read_text()
    assert "client-1 exited with code 0" in output, output
    lines = [line for line in output.splitlines() if "-1  " in line and "|" in line]
    first = next(number for number, line in enumerate(lines) if "client-1" in line)
    assert all("client-1" in line for line in lines[first:]), "the summary is the last thing on the screen"
    assert any("Predictions  classified/predictions.csv" in line for line in lines[first:])
    assert len(rows(project)) == 208
    summary = json.loads((project.folder / "classified/summary.json").read_text())
    assert summary["accuracy"] > 0.95
    assert len(list((project.folder / "classified/miss").iterdir())) == summary["misses"]


def test_all_files_belong_to_the_user(project: Project, up: Path) -> None:
    assert project.owners() == {OWNER if os.getuid() == 0 else os.getuid()}


def test_the_ports_are_open_on_this_machine_only(project: Project, up: Path) -> None:
    for inside, outside in ((8500, project.grpc), (8501, project.rest)):
        assert project.shell(f"docker compose port gateway {inside}").stdout.strip() == f"127.0.0.1:{outside}"


def test_the_client_image_is_light(project: Project, up: Path) -> None:
    sizes = [
        int(project.shell(f"docker image inspect --format '{{{{.Size}}}}' {image}").stdout)
        for image in ("classify-client", "python:3.11-slim-bookworm")
    ]
    assert sizes[0] - sizes[1] <= 150e6
    found = project.shell("docker compose run --rm -T --no-deps --entrypoint python3 client -c 'import tensorflow'")
    assert "No module named 'tensorflow'" in found.stderr


def test_containers_cannot_write_to_folders_they_only_read(project: Project, up: Path) -> None:
    for service, place in (("training", "/dataset"), ("client", "/images"), ("client", "/parts")):
        found = project.shell(f"docker compose run --rm -T --no-deps --entrypoint touch {service} {place}/x")
        assert "Read-only file system" in found.stderr
    assert project.shell("docker compose exec -T serving touch /models/x").returncode != 0


def test_a_second_run_sends_no_image_again(project: Project, up: Path) -> None:
    again = project.run("docker compose run --rm client /images")
    assert again.returncode == 0, again.stderr
    assert "208 answered before, not sent again" in again.stdout
    overwritten = project.run("docker compose run --rm client /images --overwrite")
    assert overwritten.returncode == 0, overwritten.stderr
    assert "answered before" not in overwritten.stdout


def test_other_commands_of_training(project: Project, up: Path) -> None:
    table = project.run("docker compose run --rm training inspect dataset")
    assert table.returncode == 0, table.stderr
    assert re.search(r"total +828 ", table.stdout)


def test_decisions_in_a_review_are_applied_and_undone(project: Project, up: Path) -> None:
    seen = project.folder / "images/zero/seen.png"
    shutil.copy2(sorted((project.folder / "dataset/two").iterdir())[0], seen)
    project.own(seen)
    found = project.shell("docker compose run --rm -T --no-deps client images/zero --output classified/seen")
    assert found.returncode == 0, found.stderr
    seen.unlink()
    review = project.folder / "classified/seen/review.csv"
    with review.open(newline="", encoding="utf-8") as file:
        (miss,) = (row for row in csv.DictReader(file) if row["path"] == "seen.png")
    assert miss["seen"] == "true"
    with review.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, miss)
        writer.writeheader()
        # A decision is about an image under its label, and the dataset has this one as a two.
        writer.writerow(miss | {"label": "two", "action": "delete"})
    project.ran.add("docker compose run --rm apply classified/review.csv")
    applied = project.shell("docker compose run --rm -T apply classified/seen/review.csv --yes")
    assert applied.returncode == 0, applied.stderr
    assert len(list((project.folder / "dataset/two").iterdir())) == 119
    # `mend` is the service's name in release 0.1.
    undone = project.shell("docker compose run --rm -T mend --undo --yes")
    assert undone.returncode == 0, undone.stderr
    assert len(list((project.folder / "dataset/two").iterdir())) == 120
    assert project.owners() == {OWNER if os.getuid() == 0 else os.getuid()}


def test_an_audit_is_decided_and_applied(project: Project, up: Path) -> None:
    wrong = project.folder / "dataset/two/wrong.png"
    sorted((project.folder / "dataset/zero").iterdir())[0].rename(wrong)
    audited = project.run("docker compose run --rm audit")
    assert audited.returncode == 0, audited.stderr
    review = project.folder / "audited/review.csv"
    with review.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert "two/wrong.png" in {row["path"] for row in found if row["issue_type"] == "wrong-label"}
    with review.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, found[0])
        writer.writeheader()
        writer.writerows(row | {"action": "relabel:zero" * (row["path"] == "two/wrong.png")} for row in found)
    project.ran.add("docker compose run --rm apply audited/review.csv")
    applied = project.shell("docker compose run --rm -T apply audited/review.csv --yes")
    assert applied.returncode == 0, applied.stderr
    assert (project.folder / "dataset/zero/wrong.png").is_file()
    assert project.owners() == {OWNER if os.getuid() == 0 else os.getuid()}


def test_clients_outside_docker_use_the_gateway(project: Project, up: Path, tmp_path: Path) -> None:
    status = project.shell(f"curl --silent --fail localhost:{project.rest}/v1/models/classifier")
    assert '"AVAILABLE"' in status.stdout
    project.ran |= {"classify-client ./images", "curl localhost:8501/v1/models/classifier"}
    command = f"{sys.executable} -m classify_client ./images --output {tmp_path} --server localhost:{project.grpc}"
    outside = project.shell(command)
    assert outside.returncode == 0, outside.stderr
    assert "Images       208" in outside.stdout


def test_a_new_version_appears_during_a_run(project: Project, up: Path, images: int, log: Path) -> None:
    client = classify_many(project, log)
    project.publish(2)
    assert finished(client, log, project, images) == {"1", "2"}


def test_rollback_to_the_previous_version(project: Project, up: Path) -> None:
    wait_for("version 2", lambda: project.serves(2))
    assert project.run("mv models/classifier/2 models/classifier/2.bad").returncode == 0
    wait_for("version 1", lambda: project.serves(1))


def test_a_killed_server_restarts_and_the_run_continues(project: Project, up: Path, images: int, log: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can kill a container's process")
    client = classify_many(project, log)
    (server,) = project.containers("serving")
    os.kill(int(project.shell(f"docker inspect --format '{{{{.State.Pid}}}}' {server}").stdout), signal.SIGKILL)
    finished(client, log, project, images)
    assert int(project.shell(f"docker inspect --format '{{{{.RestartCount}}}}' {server}").stdout) == 1


def test_several_servers_share_the_work(project: Project, up: Path, images: int, log: Path, tmp_path: Path) -> None:
    scaled = project.start("docker compose up --scale serving=3", tmp_path / "scaled")
    wait_for("three servers", lambda: len(project.containers("serving")) == 3)
    wait_for("their health", lambda: project.shell("docker compose ps serving").stdout.count("(healthy)") == 3)
    servers = project.containers("serving")
    before = [received(server) for server in servers]
    client = classify_many(project, log)
    finished(client, log, project, images)
    work = [received(server) - earlier for server, earlier in zip(servers, before, strict=True)]
    assert min(work) > sum(work) / 6, f"bytes received: {work}"
    scaled.send_signal(signal.SIGINT)
    scaled.wait()


def test_a_cluster_goes_on_without_a_machine_and_a_server(
    project: Project, up: Path, images: int, tmp_path: Path
) -> None:
    log, classified = tmp_path / "log", project.folder / "classified"
    for path in classified.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    commands = [command for command, _ in documented_commands(ROOT / "docs/scale.md")]
    build, start = dict.fromkeys(command for command in commands if "--profile cluster" in command)
    built = project.run(build)
    assert built.returncode == 0, built.stderr
    cluster = project.start(start, log)
    parts, end = ".cluster/*/rows/*.parquet", b"cluster-client-1 exited with code"
    wait_for("the first rows", lambda: len(list(classified.glob(parts))) > 1 or cluster.poll() is not None)
    lost = (project.containers("ray-worker")[-1], project.containers("serving")[-1])
    assert subprocess.run(["docker", "kill", *lost], capture_output=True).returncode == 0
    wait_for("the client", lambda: end in log.read_bytes() or cluster.poll() is not None)
    assert "cluster-client-1 exited with code 0" in log.read_text(), log.read_text()
    found = {row["path"]: row for row in rows(project)}
    assert len(found) == len(rows(project)) == images + 208
    assert not (classified / ".cluster").exists()
    assert project.owners() == {OWNER if os.getuid() == 0 else os.getuid()}
    alone = project.shell("docker compose run --rm -T --no-deps client /images --overwrite")
    assert alone.returncode == 0, alone.stderr
    for row in rows(project):
        there = found.pop(row["path"])
        # The last digits of a probability depend on the images that are computed at the same time.
        assert float(row["probability"]) == pytest.approx(float(there["probability"]), abs=1e-3)
        same = ("status", "true_label", "predicted", "correct", "size", "modified", "miss")
        assert [there[name] for name in same] == [row[name] for name in same]
    assert not found
    # What KubeRay does: the head's job server starts the command.
    submit = "docker compose --profile cluster exec -T ray-head ray job submit --address http://127.0.0.1:8265 --"
    command = "python3 -m classify_client images --server serving:8500 --output classified --ray auto --overwrite"
    submitted = project.shell(f"{submit} {command}")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert f"Images       {images + 208}" in submitted.stdout
    assert len({row["path"] for row in rows(project)}) == len(rows(project)) == images + 208
    assert project.owners() == {OWNER if os.getuid() == 0 else os.getuid()}
    failed = project.shell(f"{submit} {command.replace(' images ', ' nowhere ')}")
    assert failed.returncode == 1
    assert "failed with exit code 2" in failed.stdout + failed.stderr
    cluster.send_signal(signal.SIGINT)
    cluster.wait()


def received(container: str) -> int:
    """Number of bytes that a container has received over the network."""
    command = ["docker", "exec", container, "cat", "/proc/net/dev"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return sum(int(line.split(":")[1].split()[0]) for line in lines if "eth" in line)


def test_mutual_tls(project: Project, up: Path, tmp_path: Path) -> None:
    made = project.run("serving/tls/make-tls")
    assert made.returncode == 0, made.stderr
    project.own(project.folder / "serving/tls")
    settings = re.search(r"```text\n(SERVING_ARGS=--ssl.*?)```", PAGE.read_text(), re.DOTALL)
    assert settings
    with (project.folder / ".env").open("a") as file:
        file.write(settings[1])
    started = project.shell("docker compose up --detach --scale serving=1 serving gateway --wait")
    assert started.returncode == 0, started.stderr
    encrypted = project.shell("docker compose up --no-deps client")
    assert "client-1 exited with code 0" in encrypted.stdout, encrypted.stdout
    files = "--ca serving/tls/ca.crt --cert serving/tls/client.crt --key serving/tls/client.key"
    project.ran.add(f"classify-client ./images {files}")
    command = f"{sys.executable} -m classify_client ./images --server localhost:{project.grpc}"
    outside = project.shell(f"{command} {files} --output {tmp_path}/tls")
    assert outside.returncode == 0, outside.stderr
    for lacking in ("", "--ca serving/tls/ca.crt"):
        refused = project.shell(f"{command} {lacking} --output {tmp_path}/plain --retry-timeout 2s")
        assert refused.returncode == 3, refused.stdout


def test_an_int8_version_from_inside_and_outside_docker_is_served(project: Project, up: Path, tmp_path: Path) -> None:
    models = project.folder / "models/classifier"
    shutil.rmtree(models / "2.bad")
    inside = project.run("docker compose run --rm training quantize models/classifier")
    assert inside.returncode == 0, inside.stderr
    assert project.owners() == {OWNER if os.getuid() == 0 else os.getuid()}
    wait_for("version 2", lambda: project.serves(2))
    shutil.copytree(models / "1", tmp_path / "classifier/1")
    project.ran.add(".venv/bin/classify-train quantize models/classifier")
    outside = project.shell(f"{sys.executable} -m classify_training quantize {tmp_path}/classifier --data dataset")
    assert outside.returncode == 0, outside.stderr
    for said in (inside.stdout, outside.stdout):
        assert "Exported classifier version 2 (int8)" in said
    assert (tmp_path / "classifier/2/saved_model.pb").is_file()


def test_the_next_trained_version_is_served(project: Project, up: Path) -> None:
    command = "docker compose run --rm training train dataset"
    project.ran.add(command)
    # One epoch, to save time.
    trained = project.shell(f"{command} --epochs 1")
    assert trained.returncode == 0, trained.stderr
    wait_for("version 3", lambda: project.serves(3))
    assert project.owners() == {OWNER if os.getuid() == 0 else os.getuid()}


def test_down(project: Project, up: Path) -> None:
    assert project.run("docker compose down").returncode == 0
    assert not project.containers("serving")


def test_every_documented_command_was_run(project: Project, up: Path) -> None:
    if not tensorflow_serving():
        project.ran.add("docker compose -f docker-compose.yml -f serving/embedded.compose.yml up")
    for command, remark in documented_commands(PAGE):
        assert command in project.ran or remark.startswith("needs "), f"{command} is not tested"
