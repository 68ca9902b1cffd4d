"""Runs of classify-client over real gRPC: results, exit codes and error messages."""

import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from client_support import Client, Start
from support import BrightnessModel, make_metadata, write_picture

from classify_client.cli.main import main


def test_every_file_gets_one_row_in_order_with_its_true_label(client: Client) -> None:
    result = client.run("--batch-size", "2")
    assert result.exit_code == 0, result.output
    rows = client.rows()
    labels = [(row["path"], row["true_label"], row["true_class"], row["predicted"], row["correct"]) for row in rows]
    assert labels == [
        ("black/1.png", "black", "black", "black", "true"),
        ("black/2.png", "black", "black", "white", "false"),
        ("dark grey/1.png", "dark grey", "grey", "grey", "true"),
        ("dark grey/2.png", "dark grey", "grey", "black", "false"),
        ("unknown/1.png", "", "", "black", ""),
        ("white/1.jpg", "white", "white", "white", "true"),
    ]
    assert (
        rows[0]
        | {
            "status": "ok",
            "probability": "0.700000",
            "top_2": "grey",
            "top_3_probability": "0.100000",
            "top_4": "",
            "model_version": "1",
            "size": str((client.images / "black/1.png").stat().st_size),
        }
        == rows[0]
    )


def test_misses_are_copied_and_counted(client: Client) -> None:
    result = client.run()
    assert client.misses() == ["black_to_white_2.png", "grey_to_black_2.png"]
    copy = (client.output / "miss/black_to_white_2.png").read_bytes()
    assert copy == (client.images / "black/2.png").read_bytes()
    summary = client.summary()
    assert (summary["images"], summary["labelled"], summary["correct"], summary["misses"]) == (6, 5, 3, 2)
    assert summary["classes"]["black"] == {"support": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert summary["confusion"] == {"classes": ["black", "grey", "white"], "matrix": [[1, 0, 1], [1, 1, 0], [0, 0, 1]]}
    assert summary["complete"]
    assert "60.0%" in result.stdout
    assert str(client.output / "miss") in result.stdout


def test_misses_of_equal_name_keep_both_files(client: Client) -> None:
    write_picture(client.images / "more/black/2.png", 251)
    client.run()
    plain_name, hashed_name = client.misses()[:2]
    assert plain_name == "black_to_white_2.png"
    assert hashed_name.startswith("black_to_white_2_")
    assert {row["miss"] for row in client.rows()} == {"", *client.misses()}
    before = client.misses()
    client.run("--overwrite")
    assert client.misses() == before


def test_unreadable_images_get_error_rows_and_exit_code_1(client: Client) -> None:
    (client.images / "black/0.png").write_bytes(b"no image")
    result = client.run()
    assert result.exit_code == 1
    failed = client.rows()[0]
    assert (failed["path"], failed["status"], failed["predicted"]) == ("black/0.png", "error", "")
    assert "not an image" in failed["error"]
    assert client.summary()["failed"] == 1
    assert client.run("--max-failures", "1").exit_code == 0


def test_a_refused_batch_fails_its_images_and_the_run_continues(start: Start) -> None:
    client = start(BrightnessModel(make_metadata(), refuse=128))
    for index, brightness in enumerate((5, 128, 250)):
        write_picture(client.images / f"{index}.png", brightness)
    assert client.run("--batch-size", "1").exit_code == 1
    assert [row["status"] for row in client.rows()] == ["ok", "error", "ok"]
    assert client.rows()[1]["error"] == "INVALID_ARGUMENT: this brightness is refused"


def test_running_again_sends_only_new_or_changed_images(client: Client) -> None:
    client.run()
    first_rows = client.rows()
    assert client.model.images == 6
    assert client.run().exit_code == 0
    assert client.model.images == 6
    assert client.rows() == first_rows
    assert client.summary()["reused"] == 6
    write_picture(client.images / "black/2.png", 4)
    write_picture(client.images / "a.png", 4)
    (client.images / "white/1.jpg").unlink()
    client.run()
    assert client.model.images == 8
    paths = ["a.png", "black/1.png", "black/2.png", "dark grey/1.png", "dark grey/2.png", "unknown/1.png"]
    assert [row["path"] for row in client.rows()] == paths
    assert client.misses() == ["grey_to_black_2.png"]


def test_turning_labels_off_sends_no_image_again(client: Client) -> None:
    client.run()
    client.run("--labels", "none")
    assert client.model.images == 6
    assert client.misses() == []
    assert client.summary()["accuracy"] is None


def test_a_different_model_with_the_same_version_classifies_all_images_again(client: Client, start: Start) -> None:
    client.run()
    (client.images / "black/2.png").unlink()
    new_model = start(BrightnessModel(make_metadata(created="2026-02-01T00:00:00+00:00")))
    new_model.run()
    assert new_model.model.images == 5
    assert new_model.misses() == [], "without the merge, `dark grey` is not a class of the model"


def test_a_killed_run_resumes_without_losing_or_repeating_rows(client: Client) -> None:
    client.run()
    complete = (client.output / "predictions.csv").read_bytes()
    ends = [position + 1 for position, byte in enumerate(complete) if byte == 10]
    for cut in {0, ends[0], *ends[1:-1], ends[2] + 9, len(complete) - 1, len(complete) - 2}:
        (client.output / "predictions.csv").write_bytes(complete[:cut])
        shutil.rmtree(client.output / "miss")
        assert client.run().exit_code == 0
        assert (client.output / "predictions.csv").read_bytes() == complete
        assert len(client.misses()) == 2


def test_ctrl_c_waits_for_requests_in_flight_and_a_rerun_resumes(client: Client) -> None:
    for index in range(60):
        write_picture(client.images / f"white/x{index:02}.png", 255)
    client.model.gate.clear()

    def press_ctrl_c() -> None:
        client.model.asked.wait(30)
        os.kill(os.getpid(), signal.SIGINT)
        client.model.gate.set()

    thread = threading.Thread(target=press_ctrl_c)
    thread.start()
    result = client.run("--batch-size", "1", "--in-flight", "1", "--threads", "1")
    thread.join()
    assert result.exit_code == 130
    done = len(client.rows())
    assert 1 <= done < 66
    assert done == client.model.images
    assert not client.summary()["complete"]
    assert client.run().exit_code == 0
    assert client.model.images == 66
    assert len(client.rows()) == 66


def test_results_inside_the_input_folder_are_not_classified(client: Client) -> None:
    client.output = client.images / "classified"
    client.run()
    client.run()
    assert len(client.rows()) == 6
    client.output = client.images / "another"
    client.run()
    assert len(client.rows()) == 6


def test_the_nearest_folder_that_names_a_class_is_the_true_label(client: Client) -> None:
    write_picture(client.images / "black/2026/may/3.png", 6)
    write_picture(client.images / "black/white/4.png", 250)
    client.run(inputs=(client.images / "black",))
    assert [row["true_class"] for row in client.rows()] == ["black", "black", "black", "white"]


def test_the_summary_says_that_no_image_has_a_true_label(client: Client) -> None:
    assert "no image is in a folder with the name of" in client.run(inputs=(client.images / "unknown",)).stdout


def test_fail_under_sets_the_exit_code(client: Client) -> None:
    assert client.run("--fail-under", "0.6").exit_code == 0
    assert client.run("--fail-under", "0.61").exit_code == 1
    assert client.run("--fail-under", "0.1", "--labels", "none").exit_code == 2


def test_files_and_several_folders_are_classified_once_each(client: Client) -> None:
    client.run(inputs=(client.images / "black", client.images / "white/1.jpg", client.images / "black"))
    assert [Path(row["path"]).name for row in client.rows()] == ["1.png", "2.png", "1.jpg"]
    assert [row["true_class"] for row in client.rows()] == ["black", "black", "white"]


def error_line(result: Result) -> str:
    """The only line on stderr."""
    assert len(result.stderr.splitlines()) == 1
    return str(result.stderr)


def test_inputs_without_images_exit_with_code_2(client: Client, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").touch()
    for name in ("empty", "texts", "absent"):
        result = client.run(inputs=(tmp_path / name,))
        assert result.exit_code == 2
        assert str(tmp_path / name) in error_line(result)


def test_no_server_no_model_and_an_unknown_metadata_schema_exit_with_code_3(client: Client, start: Start) -> None:
    unreachable = client.run("--server", "127.0.0.1:1", "--retry-timeout", "0")
    assert unreachable.exit_code == 3
    assert "127.0.0.1:1" in error_line(unreachable)
    unknown = client.run("--model", "other", "--retry-timeout", "0")
    assert unknown.exit_code == 3
    assert "--model" in error_line(unknown)
    newer = start(BrightnessModel(make_metadata(schema_version=9)))
    result = client.run("--server", newer.address)
    assert result.exit_code == 3
    assert "upgrade" in error_line(result)
    assert not client.output.exists()


def test_a_local_server_for_a_missing_model_folder_exits_with_code_3(client: Client, tmp_path: Path) -> None:
    command = [str(client.images), "--output", str(client.output), "--local-server", str(tmp_path / "absent")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 3
    assert str(tmp_path / "absent") in error_line(result)
    assert CliRunner().invoke(main, [*command, "--server", "localhost:1"]).exit_code == 2


def test_an_output_folder_that_cannot_be_used_exits_with_code_2(client: Client, tmp_path: Path) -> None:
    client.output = tmp_path / "file"
    client.output.touch()
    result = client.run()
    assert result.exit_code == 2
    assert str(client.output) in error_line(result)
    client.output = tmp_path / "foreign"
    client.output.mkdir()
    for content in (b"a,b\n1,2\n", "path,status\n".encode("utf-16"), b"\xff\0"):
        (client.output / "predictions.csv").write_bytes(content)
        result = client.run("--overwrite")
        assert result.exit_code == 2
        assert "predictions.csv" in error_line(result)
        assert (client.output / "predictions.csv").read_bytes() == content
    client.output = client.images
    assert "also the output folder" in error_line(client.run())


@pytest.mark.parametrize("name", ["a,\"b'.png", "ä 🐈.png", "line\nbreak.png", "=cmd.png", os.fsdecode(b"\xff.png")])
def test_unusual_file_names_get_one_row_each(start: Start, name: str) -> None:
    client = start(BrightnessModel(make_metadata()))
    write_picture(client.images / "black/plain.png", 250).rename(client.images / "black" / name)
    for _ in range(2):
        assert client.run().exit_code == 0
        assert len(client.rows()) == 1
        assert len(client.misses()) == 1
    assert client.model.images == 1
