"""Files in the output folder for each output option, and after a rerun with other options."""

import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from click.testing import CliRunner
from client_support import Client, Start
from support import BrightnessModel, make_metadata, write_picture

from classify_client.cli.main import main
from classify_client.cli.options import TOP_K as TOP_K_OPTION
from classify_client.results.formats import read_rows
from classify_serving.contract.model import TOP_K


def files(folder: Path) -> set[str]:
    """Paths of all files in a folder and its folders, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def read_results(client: Client) -> list[Any]:
    """The rows of the results file, in any format."""
    (path,) = client.output.glob("predictions.*")
    return list(read_rows(path))


def test_every_format_has_the_same_rows_and_another_format_sends_no_image_again(client: Client) -> None:
    (client.images / "black/0.png").write_bytes(b"no image")
    client.run()
    expected = read_results(client)
    for file_format in ("jsonl", "parquet", "parquet", "jsonl", "csv"):
        assert client.run("--format", file_format).exit_code == 1
        assert read_results(client) == expected
        assert f"predictions.{file_format}" in files(client.output)
    assert client.model.images == 6
    assert len([name for name in os.listdir(client.output) if "predictions" in name]) == 1


def test_json_lines_and_parquet_have_typed_values(client: Client) -> None:
    client.run("--format", "jsonl")
    lines = [json.loads(line) for line in (client.output / "predictions.jsonl").read_text().splitlines()]
    client.run("--format", "parquet")
    assert pyarrow.parquet.read_table(client.output / "predictions.parquet").to_pylist() == lines
    miss = lines[1]
    assert (miss["correct"], miss["probability"], miss["model_version"], miss["top_4"]) == (False, 0.7, 1, None)


@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_a_killed_run_resumes_in_every_format(client: Client, file_format: str) -> None:
    client.run("--format", "jsonl")
    journal = (client.output / "predictions.jsonl").read_bytes()
    client.run("--format", file_format)
    expected = read_results(client)
    ends = [position + 1 for position, byte in enumerate(journal) if byte == 10]
    for cut in (0, 7, ends[2], ends[2] + 9, len(journal) - 1):
        (client.output / f"predictions.{file_format}").unlink()
        file_name = "predictions.jsonl" if file_format == "jsonl" else ".predictions.jsonl"
        (client.output / file_name).write_bytes(journal[:cut])
        assert client.run("--format", file_format).exit_code == 0
        assert read_results(client) == expected
        assert not (client.output / ".predictions.jsonl").exists()


def test_parquet_without_pyarrow_is_an_error_before_anything_is_written(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = client.run("--format", "parquet")
    assert result.exit_code == 2
    assert "pip install pyarrow" in result.stderr
    assert not client.output.exists()


def test_top_k_is_the_number_of_classes_in_each_row(client: Client) -> None:
    client.run("--top-k", "2")
    assert [name for name in client.rows()[0] if name.startswith("top_")] == ["top_2", "top_2_probability"]
    client.run("--top-k", "1")
    assert client.model.images == 6, "the rows have enough classes already"
    assert not any(name.startswith("top_") for name in client.rows()[0])
    client.run()
    assert client.model.images == 12, "the rows do not have the other classes any more"
    client.run()
    assert client.model.images == 12, "a model with three classes has no more"
    assert TOP_K_OPTION == TOP_K


def test_after_a_rerun_the_copies_are_those_of_its_options(client: Client) -> None:
    original = (client.images / "black/2.png").stat()
    for options, expected in (
        ((), {"miss/black_to_white_2.png", "miss/grey_to_black_2.png"}),
        (("--miss-by-pair",), {"miss/black_to_white/2.png", "miss/grey_to_black/2.png"}),
        (("--miss-by-pair", "--link"), {"miss/black_to_white/2.png", "miss/grey_to_black/2.png"}),
        (("--link", "--labels", "none"), set()),
        (("--link",), {"miss/black_to_white_2.png", "miss/grey_to_black_2.png"}),
        ((), {"miss/black_to_white_2.png", "miss/grey_to_black_2.png"}),
    ):
        assert client.run(*options).exit_code == 0
        copies = files(client.output) - {"predictions.csv", "summary.json", "report.html", "review.csv"}
        assert copies == expected
        assert all((client.output / name).stat().st_nlink == 1 + ("--link" in options) for name in copies)
        assert {f"miss/{row['miss']}" for row in client.rows() if row["miss"]} == expected
    assert not list((client.output / "miss").glob("*/"))
    assert (client.images / "black/2.png").stat().st_mtime_ns == original.st_mtime_ns
    assert client.model.images == 6


def test_misses_of_equal_name_in_one_pair_keep_both_files(client: Client) -> None:
    write_picture(client.images / "more/black/2.png", 251)
    client.run("--miss-by-pair")
    plain_name, hashed_name = sorted(path.name for path in (client.output / "miss/black_to_white").iterdir())
    assert (plain_name, hashed_name[:2]) == ("2.png", "2_")


def test_link_makes_a_hard_link_to_the_target_of_a_symbolic_link(client: Client, tmp_path: Path) -> None:
    (client.images / "black/2.png").rename(tmp_path / "elsewhere.png")
    (client.images / "black/2.png").symlink_to("../../elsewhere.png")
    client.run("--link")
    copy = client.output / "miss/black_to_white_2.png"
    assert not copy.is_symlink()
    assert copy.samefile(tmp_path / "elsewhere.png")


def test_link_makes_a_copy_if_a_hard_link_is_impossible(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert client.run("--link").exit_code == 0
    assert len(client.misses()) == 2


def test_uncertain_images_are_copied_with_the_probability_in_their_names(client: Client) -> None:
    result = client.run("--review-below", "0.71")
    assert len(files(client.output / "review")) == 6
    assert {row["review"] for row in client.rows()} == files(client.output / "review")
    assert "0.70_white_1.jpg" in files(client.output / "review")
    assert "6 with a probability below 0.71" in result.stdout
    client.run("--review-below", "0.7")
    assert files(client.output / "review") == set()


def test_file_names_like_formulas_are_escaped_and_recognised_in_a_rerun(start: Start) -> None:
    client = start(BrightnessModel(make_metadata()))
    names = ["=1+2.png", "+1.png", "-1.png", "@x.png", "\t=1.png", "'=1.png", "''-1.png", "'plain.png"]
    for name in names:
        write_picture(client.images / "=x" / "1.png", 5).rename(client.images / name)
    for _ in range(2):
        client.run()
        paths = [row["path"] for row in client.rows()]
        assert sorted(paths) == sorted(name if name == "'plain.png" else f"'{name}" for name in names)
        assert client.model.images == len(names)


def test_json_prints_only_the_summary(client: Client) -> None:
    result = client.run("--json")
    assert json.loads(result.stdout) == client.summary()
    low, high = client.summary()["accuracy_interval"]
    assert 0.2 < low < 0.6 < high < 0.95


def test_control_codes_in_class_names_are_never_printed(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[31m../../x" + "y" * 300
    client = start(HostileModel(make_metadata(class_names=("black", hostile)), hostile))
    for number in range(3):
        write_picture(client.images / f"black/{number}.png", 20 * number)
    assert client.run("--miss-by-pair").exit_code == 0
    result = client.run("--review-below", "1")
    assert "\x1b" not in result.output
    assert max(map(len, result.stdout.splitlines())) < 200
    assert len(client.misses()) == 3
    expected = {"miss", "review", "predictions.csv", "summary.json", "report.html", "review.csv"}
    assert {path.name for path in client.output.iterdir()} == expected


@pytest.mark.parametrize(
    "label", ["", ".", "..", "../../x", "/etc/x", "a/b", "nul\0", "x" * 100_000, "\ud83d\n", "🐈" * 99]
)
def test_no_predicted_label_leads_to_a_file_outside_the_output_folder(start: Start, tmp_path: Path, label: str) -> None:
    label = label.encode(errors="replace").decode()
    client = start(HostileModel(make_metadata(), label))
    write_picture(client.images / "black/1.png", 5)
    before = files(tmp_path)
    for options in (("--miss-by-pair",), (), ("--review-below", "0.9"), ("--format", "parquet")):
        assert client.run(*options).exit_code == 0
        assert all(name.startswith("classified/") for name in files(tmp_path) - before)
        assert len(read_results(client)) == len(files(client.output / "miss")) == 1
    assert client.model.images == 1


class HostileModel(BrightnessModel):
    """Predicts a label that is not the name of a class."""

    def __init__(self, metadata: Any, label: str) -> None:
        super().__init__(metadata)
        self.label = label

    def predict(self, signature: str, inputs: Any) -> dict[str, Any]:
        answer = super().predict(signature, inputs)
        for value in answer.values():
            if value.dtype == object and value.ndim == 2:
                value[:, 0] = self.label.encode()
        return answer


def test_only_plain_text_is_printed_without_a_terminal(client: Client) -> None:
    result = client.run()
    assert "\x1b" not in result.output
    assert str(client.output / "predictions.csv") in result.stdout
    assert result.stderr == ""


def test_options_can_be_set_by_environment_variables(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLASSIFY_REVIEW_BELOW", "0.9")
    monkeypatch.setenv("CLASSIFY_MISS_BY_PAIR", "1")
    monkeypatch.setenv("CLASSIFY_FORMAT", "jsonl")
    command = [str(client.images), "--output", str(client.output), "--server", client.address]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert "miss/black_to_white/2.png" in files(client.output)
    assert "predictions.jsonl" in files(client.output)


def test_an_output_folder_that_is_deleted_during_the_run_ends_it(client: Client) -> None:
    client.model.gate.clear()

    def delete_output() -> None:
        client.model.asked.wait(30)
        shutil.rmtree(client.output)
        client.model.gate.set()

    thread = threading.Thread(target=delete_output)
    thread.start()
    result = client.run("--batch-size", "2", "--in-flight", "1")
    thread.join()
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert "predictions.csv was deleted or replaced during the run: run again" in line
    assert client.run().exit_code == 0
    assert len(client.rows()) == 6


def test_an_output_folder_is_no_input(client: Client, tmp_path: Path) -> None:
    client.run()
    result = CliRunner().invoke(main, [str(client.output), "--output", str(tmp_path / "other")])
    assert result.exit_code == 2
    assert "is the output folder of a run: give a folder of images" in result.stderr
