"""classify-train audit and review: from a folder with mistakes to decisions, with the real network and files."""

import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image
from review_support import make_row
from training_support import write_noisy

from classify_serving.exchange.label_scores import read_label_scores
from classify_serving.exchange.review import ReviewRow, read_review, write_review
from classify_serving.exchange.train_manifest import TRAIN_MANIFEST_FILE
from classify_serving.files import locked, sha256_of
from classify_training.cli.main import main


def audit(data: Path, output: Path, *options: str) -> Result:
    command = ["audit", str(data), "--output", str(output), "--weights", "random", "--image-size", "32", "--quiet"]
    return CliRunner().invoke(main, [*command, *options])


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def by_path(folder: Path) -> dict[str, ReviewRow]:
    return {row.path: row for row in read_review(folder / "review.csv")}


def test_an_audit_finds_every_kind_of_mistake_and_changes_nothing(data: Path, tmp_path: Path) -> None:
    before = contents(data)
    result = audit(data, tmp_path / "audited")
    assert result.exit_code == 0, result.output
    assert contents(data) == before
    found = by_path(tmp_path / "audited")
    for path, label in (("red/really green.png", "green"), ("rare/really red.png", "red")):
        assert (found[path].issue_type, found[path].proposed) == ("wrong-label", f"relabel:{label}")
        assert float(found[path].probability) > 0.5
        assert found[path].sha256 == sha256_of(data / path)
    copies = [found["blue/0.png"], found["green/also blue.png"]]
    assert {row.issue_type for row in copies} == {"duplicate"}
    assert {row.proposed for row in copies} == {""}
    assert "the same picture is in the dataset as green too" in copies[0].reason
    assert found["red/larger.png"].issue_type == found["blue/1.png"].issue_type == "duplicate"
    assert "very similar to 1.png, which is labelled blue" in found["red/larger.png"].reason
    assert found["red/broken.png"].issue_type == "unreadable"
    assert [row.issue_type for row in found.values()][:3] == ["duplicate", "duplicate", "wrong-label"]
    page = (tmp_path / "audited/report.html").read_text()
    rows = json.loads(re.search(r'id="review-data">(.*?)</script>', page)[1])["rows"]  # type: ignore[index]
    wrong = next(row for row in rows if row["path"] == "red/really green.png")
    assert wrong["top"][0][0] == "green"
    assert [near["label"] for near in wrong["nearest"]] == ["green"] * 3
    assert "2  likely wrong label" in result.stdout
    assert "labels were made wrong" in result.stdout


def test_another_audit_of_the_same_images_computes_no_features(data: Path, tmp_path: Path) -> None:
    def run(cache: str) -> tuple[list[tuple[str, str, str]], list[int]]:
        result = audit(data, tmp_path / "audited", "--cache", str(tmp_path / cache))
        assert result.exit_code == 0, result.output
        found = [(row.path, row.issue_type, row.proposed) for row in by_path(tmp_path / "audited").values()]
        return found, [path.stat().st_mtime_ns for path in (tmp_path / cache).rglob("features-*")]

    before, computed = run("kept")
    os.rename(data / "red/really green.png", data / "green/really green.png")
    (data / "rare/really red.png").unlink()
    after, unchanged = run("kept")
    assert unchanged == computed
    assert after == run("new")[0]
    assert "red/really green.png" in {path for path, *_ in before} - {path for path, *_ in after}
    for kept in (tmp_path / "kept").rglob("features-*"):
        os.truncate(kept, 1000)
    assert run("kept")[0] == after
    for kept in (tmp_path / "kept").rglob("features-*"):
        kept.unlink()
        kept.mkdir()
    # They are of use to the next audit only.
    assert run("kept")[0] == after
    for kept in (tmp_path / "kept").rglob("features-*"):
        kept.rmdir()
    write_noisy(data / "red/added.png", (200, 40, 40), 904)
    _, again = run("kept")
    assert len(again) == 1
    assert again != unchanged


def test_labels_that_no_model_can_know_are_not_called_wrong(data: Path, tmp_path: Path) -> None:
    # One image, near-duplicates only, copies of another label's images only, and names that are not UTF-8.
    write_noisy(data / "single/1.png", (120, 120, 120), 903)
    for level in range(3):
        Image.open(data / "blue/7.png").rotate(180).save(Path(tmp_path / "turned.png"))
        (data / "frames").mkdir(exist_ok=True)
        Image.open(tmp_path / "turned.png").save(data / f"frames/{level}.png", compress_level=level)
    (data / "copies").mkdir()
    shutil.copy(data / "red/3.png", data / "copies/3.png")
    (data / "red" / os.fsdecode(b"\xffbroken.png")).write_text("no image")
    result = audit(data, tmp_path / "audited")
    assert result.exit_code == 0, result.output
    found = by_path(tmp_path / "audited")
    assert found["copies/3.png"].issue_type == found["red/3.png"].issue_type == "duplicate"
    assert found[r"red/\xffbroken.png"].issue_type == "unreadable"
    for row in found.values():
        assert row.label not in ("single", "frames") or not row.proposed


def test_a_second_audit_keeps_the_decisions(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "audited"
    audit(data, output)
    decided = {"red/really green.png": "relabel:green", "rare/really red.png": "keep"}
    write_review(
        output / "review.csv", [replace(row, action=decided.get(path, "")) for path, row in by_path(output).items()]
    )
    (data / "blue/5.png").unlink()
    assert audit(data, output).exit_code == 0
    assert {path: row.action for path, row in by_path(output).items() if row.action} == decided
    # A label that was confirmed in the dataset is not doubted again.
    (data / ".review").mkdir()
    digest = sha256_of(data / "rare/really red.png")
    (data / ".review/confirmed.csv").write_text(f"sha256,label\n{digest},rare\n")
    audit(data, tmp_path / "again")
    assert "rare/really red.png" not in by_path(tmp_path / "again")


def test_labels_that_say_nothing_about_the_images_are_not_called_wrong(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for number in range(60):
        label = str(rng.choice(["cat", "dog", "cow"]))
        colour = tuple(rng.integers(0, 255, 3).tolist())
        write_noisy(tmp_path / "data" / label / f"{number}.png", colour, number)
    result = audit(tmp_path / "data", tmp_path / "audited")
    assert result.exit_code == 0, result.output
    assert "Warning: no label is called likely wrong, because" in result.stderr
    assert {row.issue_type for row in by_path(tmp_path / "audited").values()} <= {"confusion", "outlier"}
    assert not any(row.proposed for row in by_path(tmp_path / "audited").values())


def test_what_cannot_be_audited_ends_in_one_sentence(data: Path, tmp_path: Path) -> None:
    only = tmp_path / "only"
    shutil.copytree(data / "red", only / "red")
    result = audit(only, tmp_path / "audited")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "one label only" in result.stderr
    result = audit(data, data / "audited")
    assert result.exit_code == 2
    assert "is inside of the dataset" in result.stderr
    output = tmp_path / "audited"
    output.mkdir(exist_ok=True)
    with locked(output):
        result = audit(data, output)
    assert result.exit_code == 2
    assert f"another command is writing to {output}" in result.stderr
    (output / "review.csv").write_text("something else")
    result = audit(data, output)
    assert result.exit_code == 2
    assert "is not a review" in result.stderr
    assert (output / "review.csv").read_text() == "something else"
    write_review(output / "review.csv", [replace(make_row(only / "red/3.png", only), action="keep")])
    result = audit(data, output)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert f"has decisions about the images in {only}: choose another --output" in result.stderr
    (output / "review.csv").write_text("something else")
    for command in (["review", str(tmp_path / "nothing")], ["review", str(output)]):
        result = CliRunner().invoke(main, command)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_a_review_is_decided_and_applied_through_the_local_server(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "audited"
    audit(data, output)
    row = by_path(output)["red/really green.png"]
    command = [sys.executable, "-m", "classify_training", "review", str(output), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = re.search(r"http://([^/]+)(/\S+/)", server.stdout.readline())
        assert address is not None

        def ask(path: str, content: object) -> dict[str, object]:
            connection = http.client.HTTPConnection(address[1], timeout=300)
            connection.request("POST", address[2] + path, json.dumps(content), {"Content-Type": "application/json"})
            found: dict[str, object] = json.loads(connection.getresponse().read())
            return found

        others = (each for each in by_path(output).values() if each.issue_type not in ("unreadable", row.issue_type))
        for each, action in ((row, "relabel:green"), (next(others), "delete")):
            decision = {"key": [each.sha256, each.label, each.path], "action": action}
            ask("decisions", {"version": -1, "decisions": [decision]})
        planned = ask("apply", {"dry_run": True})
        assert "red/really green.png -> green/really green.png" in str(planned["text"])
        assert "1 to move, 1 to delete" in str(planned["text"])
        assert (data / "red/really green.png").exists()
        assert "look at what would change again" in str(
            ask("apply", {"dry_run": False, "shown": "another plan"})["error"]
        )
        ask("apply", {"dry_run": False, "shown": planned["text"]})
        assert (data / "green/really green.png").exists()
        assert not ask("apply", {"dry_run": True})["has_changes"]
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=60)
        assert (server.returncode, errors) == (0, "")


def test_a_training_stores_what_others_think_of_its_labels(model: Path, dataset: Path) -> None:
    scores = read_label_scores(model / "1" / TRAIN_MANIFEST_FILE)
    labels = {(sha256_of(path), path.parent.name) for path in dataset.rglob("*.png")}
    assert set(scores) == labels
    # So few images cannot be judged.
    assert not any(score.is_likely_wrong for score in scores.values())
    assert {score.suggested for score in scores.values()} <= {"black", "grey", "white", "x", "y"}
