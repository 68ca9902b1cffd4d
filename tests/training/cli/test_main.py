"""classify-train: tables, the sample, and one sentence for whatever a user can get wrong."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from support import write_picture

from classify_training.cli.main import main
from classify_training.cli.options.types import Duration


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_sample_is_unbalanced_and_never_overwrites(tmp_path: Path) -> None:
    result = run("sample", tmp_path / "dataset", "--images", tmp_path / "images")
    assert result.exit_code == 0
    assert "828 labelled images" in result.stdout
    counts = {folder.name: len(list(folder.iterdir())) for folder in (tmp_path / "dataset").glob("*/")}
    assert (len(counts), counts["zero"], counts["nine"]) == (10, 142, 9)
    trained = {path.name for path in (tmp_path / "dataset").rglob("*.png")}
    held_out = {path.name for path in (tmp_path / "images").rglob("*.png")}
    assert len(held_out) == 208
    assert not trained & held_out
    again = run("sample", tmp_path / "dataset", "--images", tmp_path / "other")
    assert again.exit_code == 2
    assert str(tmp_path / "dataset") in again.stderr
    assert not (tmp_path / "other").exists()


def test_the_sample_brings_the_options_to_train_on_it_with(tmp_path: Path) -> None:
    run("sample", tmp_path / "dataset", "--images", tmp_path / "images")
    result = run("train", tmp_path / "dataset", "--output", tmp_path / "m", "--dry-run", "--image-size", "48")
    assert "weights random" in result.stderr
    assert result.exit_code == 0
    (tmp_path / "dataset/config.json").write_text('{"sizes": 32}')
    refused = run("inspect", tmp_path / "dataset")
    assert refused.exit_code == 2
    assert "sets sizes, which is not an option" in refused.stderr


def test_a_first_training_is_only_done_where_there_is_none(tmp_path: Path) -> None:
    dataset, images, model = (tmp_path / name for name in ("dataset", "images", "models/classifier"))
    for folder in (dataset, images):
        folder.mkdir()
        (folder / ".gitignore").touch()
    (images / "mine.jpg").touch()
    sample = ("sample", dataset, "--images", images, "--needed-for", model)
    assert "828 labelled images" in run(*sample).stdout
    assert [path.name for path in images.iterdir() if not path.name.startswith(".")] == ["mine.jpg"]
    assert "no sample written" in run(*sample).stdout
    shutil.rmtree(dataset)
    (model / "3").mkdir(parents=True)
    assert "no sample written" in run(*sample).stdout
    assert not dataset.exists()
    write_picture(dataset / "cat/1.png", 1)
    assert "has version 3" in run("train", dataset, "--output", model, "--if-none").stdout


def test_inspect_shows_what_would_be_trained_on(dataset: Path) -> None:
    result = run("inspect", dataset, "--min-images", "4", "--val", "0.2", "--test", "0.2")
    assert result.exit_code == 0
    cells = {words[0]: words[1:] for line in result.stdout.splitlines() if (words := line.split())}
    assert cells["black"] == ["8", "0", "0", "0", "0", "black", "4", "2", "2", "4"]
    assert cells["x"] == ["2", "0", "0", "0", "0", "others", "2", "0", "0", "2"]
    assert cells["total"] == ["26", "0", "0", "0", "0", "4", "classes", "16", "5", "5", "16"]
    assert result.stderr.splitlines() == [
        "merged into others, with fewer than 4 training images each: x (2), y (2) (--min-images 2 keeps them)",
        "few test images, so that the recall of these classes will mean little: black (2), grey (1), others (0),"
        " white (2)",
    ]


def test_inspect_lists_what_is_left_out(tmp_path: Path) -> None:
    write_picture(tmp_path / "cat/1.png", 1)
    write_picture(tmp_path / "cat/2.png", 2)
    write_picture(tmp_path / "dog/2.png", 2)
    write_picture(tmp_path / "dog/3.png", 3)
    (tmp_path / "dog/bad.png").write_bytes(b"x")
    result = run("inspect", tmp_path)
    assert result.exit_code == 0
    assert f"cannot be read: {tmp_path / 'dog/bad.png'}: not an image" in result.stderr
    assert f"{tmp_path / 'cat/2.png'}, {tmp_path / 'dog/2.png'}" in result.stderr


@pytest.mark.parametrize("kind", ["absent", "empty", "no images", "one class", "bad merge"])
def test_an_unusable_dataset_is_one_sentence_and_exit_2(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "data"
    options = []
    if kind != "absent":
        root.mkdir()
    if kind == "no images":
        (root / "cat").mkdir()
        (root / "cat/notes.txt").touch()
    if kind in ("one class", "bad merge"):
        write_picture(root / "cat/1.png", 1)
    if kind == "bad merge":
        options = ["--merge", "bird=cat"]
    for command in ("inspect", "train"):
        result = run(command, root, *options)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert result.stderr.startswith("Error: ")


def test_a_merge_into_a_class_that_does_not_exist_is_reported_as_renaming(dataset: Path) -> None:
    result = CliRunner().invoke(main, ["inspect", str(dataset), "--merge", "x=ex", "--min-images", "0", "--quiet"])
    assert result.exit_code == 0, result.output
    assert "not merged but renamed, because there is no other folder ex: x" in result.stderr


def test_a_merge_must_be_of_the_form_folder_class(dataset: Path) -> None:
    result = run("inspect", dataset, "--merge", "cat")
    assert result.exit_code == 2
    assert "FOLDER=CLASS" in result.stderr


def test_weights_that_are_none(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no weights")
    for weights, code in ((tmp_path / "absent.h5", 2), (tmp_path / "text.h5", 1)):
        folders = ("--output", tmp_path / "m", "--runs", tmp_path / "runs")
        result = run("train", dataset, "--image-size", "32", "--weights", weights, *folders)
        assert result.exit_code == code
        assert str(weights) in result.stderr
        assert "--weights imagenet or random" in result.stderr
        assert not list(tmp_path.glob("m/*"))
        assert not list(tmp_path.glob("runs/*")), "a training that has not begun leaves no run"


def test_imagenet_weights_without_network_name_the_two_other_ways(dataset: Path, tmp_path: Path) -> None:
    offline = os.environ | {"KERAS_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:1", "no_proxy": ""}
    command = [sys.executable, "-m", "classify_training", "train", str(dataset), "--output", str(tmp_path / "m")]
    command += ["--runs", str(tmp_path / "runs")]
    result = subprocess.run(
        [*command, "--quiet", "--min-images", "0", "--test", "0"],
        env=offline,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "--weights PATH" in result.stderr
    assert "--weights random" in result.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_an_output_that_cannot_be_written_is_told_before_training(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        result = run("train", dataset, "--weights", "random", "--output", output)
        assert result.exit_code == 2
        assert str(tmp_path / "file") in result.stderr
        assert not result.stdout


def test_fractions_that_leave_nothing_and_merging_that_does_nothing(dataset: Path) -> None:
    assert run("inspect", dataset, "--val", "0.6", "--test", "0.6").exit_code == 2
    assert "nothing merged" in run("inspect", dataset, "--min-images", "100").stderr


def test_a_dry_run_only_shows(dataset: Path, tmp_path: Path) -> None:
    folders = ("-o", tmp_path / "models/deep/m", "--runs", tmp_path / "r")
    result = run("train", dataset, "--weights", "random", *folders, "--dry-run")
    assert result.exit_code == 0
    assert "balanced" in result.stdout
    assert not list(tmp_path.iterdir())


def test_images_of_one_pixel_are_read_and_of_too_many_left_out(tmp_path: Path) -> None:
    for label, brightness in (("cat", 1), ("dog", 200)):
        write_picture(tmp_path / f"data/{label}/1.png", brightness, (1, 1))
        write_picture(tmp_path / f"data/{label}/2.png", brightness + 1, (1, 900))
    # The size is said in the file's head; nothing of it needs to be there for the bomb to be refused.
    (tmp_path / "data/cat/huge.pgm").write_bytes(b"P5 30000 30000 255\n")
    result = run("inspect", tmp_path / "data")
    assert result.exit_code == 0
    assert "huge.pgm: too many pixels" in result.stderr
    assert result.stdout.split().count("1") >= 2


def test_a_time_budget_is_a_duration(dataset: Path) -> None:
    assert run("train", dataset, "--dry-run", "--time-budget", "1h30m").exit_code == 0
    result = run("train", dataset, "--dry-run", "--time-budget", "soon")
    assert result.exit_code == 2
    assert "'soon' is not a duration: give one such as 90s, 10m or 1h30m" in result.stderr
    seconds = [Duration().convert(value, None, None) for value in ("90", "90s", "1.5m", "1h30m", 7.0, "0")]
    assert seconds == [90, 90, 90, 5400, 7, 0]


def test_a_time_budget_without_time_to_train_is_refused(dataset: Path, tmp_path: Path) -> None:
    folders = ("--output", tmp_path / "m", "--runs", tmp_path / "runs")
    options = ("--image-size", "32", "--weights", "random", "--min-images", "0", *folders)
    result = run("train", dataset, *options, "--time-budget", "1s")
    assert result.exit_code == 2, result.stderr
    refusal = re.search(r"--time-budget 1s is too short: .* at least (\d+) s on this machine", result.stderr)
    assert refusal
    assert int(refusal[1]) > 10
    assert not list(tmp_path.glob("m/*"))
    assert not list(tmp_path.glob("runs/*"))


def test_ranges_must_be_in_order(dataset: Path) -> None:
    result = run("preview", dataset, "--erase-area", "0.4", "0.1")
    assert result.exit_code == 2
    assert "smaller one first" in result.stderr


@pytest.mark.parametrize("content", ["{", "[]", '{"sise": 32}', '{"size": 3}'])
def test_a_config_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    result = run("train", "data", "--config", tmp_path / "config.json")
    assert result.exit_code == 2
    assert "config" in result.stderr or "--image-size" in result.stderr


def test_a_preview_shows_originals_above_and_augmented_below(dataset: Path, tmp_path: Path) -> None:
    picture = tmp_path / "preview.png"
    result = run("preview", dataset, "-o", picture, "--image-size", "64", "--images", "3", "--repeats", "2", "--quiet")
    assert result.exit_code == 0
    with Image.open(picture) as image:
        assert image.width > 400
        assert image.height > 400
    assert run("preview", dataset, "-o", tmp_path / "absent" / "p.png", "--quiet").exit_code == 2


def test_a_class_that_vanishes_is_told(tmp_path: Path) -> None:
    for number in range(3):
        write_picture(tmp_path / f"data/cat/{number}.png", number)
        write_picture(tmp_path / f"data/dog/{number}.png", 100 + number)
    (tmp_path / "data/emu").mkdir()
    (tmp_path / "data/emu/bad.png").write_bytes(b"x")
    assert "can be trained on: emu" in run("inspect", tmp_path / "data").stderr
    shutil.rmtree(tmp_path / "data/dog")
    result = run("inspect", tmp_path / "data")
    assert result.exit_code == 2
    assert "none of the images in emu can be used" in result.stderr
    assert "bad.png: not an image" in result.stderr


def test_what_is_no_number_is_refused(dataset: Path) -> None:
    assert run("train", dataset, "--learning-rate", "nan").exit_code == 2
