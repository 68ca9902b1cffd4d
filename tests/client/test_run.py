"""classify-client over real gRPC: what it leaves behind, and what it does with trouble."""

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


def test_every_file_gets_a_row_in_order_with_its_truth(client: Client) -> None:
    result = client.run("--batch-size", "2")
    assert result.exit_code == 0, result.output
    rows = client.rows()
    told = [(row["path"], row["true_label"], row["true_class"], row["predicted"], row["correct"]) for row in rows]
    assert told == [
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
    copied = (client.output / "miss/black_to_white_2.png").read_bytes()
    assert copied == (client.images / "black/2.png").read_bytes()
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
    plain, hashed = client.misses()[:2]
    assert plain == "black_to_white_2.png"
    assert hashed.startswith("black_to_white_2_")
    assert {row["miss"] for row in client.rows()} == {"", *client.misses()}
    before = client.misses()
    client.run("--overwrite")
    assert client.misses() == before


def test_unreadable_images_are_rows_and_exit_1(client: Client) -> None:
    (client.images / "black/0.png").write_bytes(b"no image")
    result = client.run()
    assert result.exit_code == 1
    bad = client.rows()[0]
    assert (bad["path"], bad["status"], bad["predicted"]) == ("black/0.png", "error", "")
    assert "not an image" in bad["error"]
    assert client.summary()["failed"] == 1
    assert client.run("--max-failures", "1").exit_code == 0


def test_a_refused_batch_fails_its_images_and_the_run_goes_on(start: Start) -> None:
    made = start(BrightnessModel(make_metadata(), refuse=128))
    for index, brightness in enumerate((5, 128, 250)):
        write_picture(made.images / f"{index}.png", brightness)
    assert made.run("--batch-size", "1").exit_code == 1
    assert [row["status"] for row in made.rows()] == ["ok", "error", "ok"]
    assert made.rows()[1]["error"] == "INVALID_ARGUMENT: this brightness is refused"


def test_running_again_sends_only_what_is_new_or_changed(client: Client) -> None:
    client.run()
    first = client.rows()
    assert client.model.images == 6
    assert client.run().exit_code == 0
    assert client.model.images == 6
    assert client.rows() == first
    assert client.summary()["reused"] == 6
    write_picture(client.images / "black/2.png", 4)
    write_picture(client.images / "a.png", 4)
    (client.images / "white/1.jpg").unlink()
    client.run()
    assert client.model.images == 8
    paths = ["a.png", "black/1.png", "black/2.png", "dark grey/1.png", "dark grey/2.png", "unknown/1.png"]
    assert [row["path"] for row in client.rows()] == paths
    assert client.misses() == ["grey_to_black_2.png"]


def test_a_moved_label_is_seen_without_asking_again(client: Client) -> None:
    client.run()
    client.run("--labels", "none")
    assert client.model.images == 6
    assert client.misses() == []
    assert client.summary()["accuracy"] is None


def test_another_model_of_the_same_version_number_answers_anew(client: Client, start: Start) -> None:
    client.run()
    (client.images / "black/2.png").unlink()
    later = start(BrightnessModel(make_metadata(created="2026-02-01T00:00:00+00:00")))
    later.run()
    assert later.model.images == 5
    assert later.misses() == [], "without its merge, dark grey is no true class any more"


def test_a_killed_run_is_taken_up_without_losing_or_repeating_rows(client: Client) -> None:
    client.run()
    whole = (client.output / "predictions.csv").read_bytes()
    ends = [position + 1 for position, byte in enumerate(whole) if byte == 10]
    for cut in {0, ends[0], *ends[1:-1], ends[2] + 9, len(whole) - 1, len(whole) - 2}:
        (client.output / "predictions.csv").write_bytes(whole[:cut])
        shutil.rmtree(client.output / "miss")
        assert client.run().exit_code == 0
        assert (client.output / "predictions.csv").read_bytes() == whole
        assert len(client.misses()) == 2


def test_ctrl_c_finishes_what_is_in_flight_and_a_rerun_goes_on(client: Client) -> None:
    for index in range(60):
        write_picture(client.images / f"white/x{index:02}.png", 255)
    client.model.gate.clear()

    def shutdown() -> None:
        client.model.asked.wait(30)
        os.kill(os.getpid(), signal.SIGINT)
        client.model.gate.set()

    interrupter = threading.Thread(target=shutdown)
    interrupter.start()
    result = client.run("--batch-size", "1", "--in-flight", "1", "--threads", "1")
    interrupter.join()
    assert result.exit_code == 130
    done = len(client.rows())
    assert 1 <= done < 66
    assert done == client.model.images
    assert not client.summary()["complete"]
    assert client.run().exit_code == 0
    assert client.model.images == 66
    assert len(client.rows()) == 66


def test_results_inside_the_input_are_not_classified(client: Client) -> None:
    client.output = client.images / "classified"
    client.run()
    client.run()
    assert len(client.rows()) == 6
    client.output = client.images / "another"
    client.run()
    assert len(client.rows()) == 6


def test_the_nearest_folder_that_is_a_class_is_the_truth(client: Client) -> None:
    write_picture(client.images / "black/2026/may/3.png", 6)
    write_picture(client.images / "black/white/4.png", 250)
    client.run(inputs=(client.images / "black",))
    assert [row["true_class"] for row in client.rows()] == ["black", "black", "black", "white"]


def test_images_without_any_truth_are_told(client: Client) -> None:
    assert "no image is in a folder with the name of" in client.run(inputs=(client.images / "unknown",)).stdout


def test_fail_under(client: Client) -> None:
    assert client.run("--fail-under", "0.6").exit_code == 0
    assert client.run("--fail-under", "0.61").exit_code == 1
    assert client.run("--fail-under", "0.1", "--labels", "none").exit_code == 2


def test_files_and_several_folders(client: Client) -> None:
    client.run(inputs=(client.images / "black", client.images / "white/1.jpg", client.images / "black"))
    assert [Path(row["path"]).name for row in client.rows()] == ["1.png", "2.png", "1.jpg"]
    assert [row["true_class"] for row in client.rows()] == ["black", "black", "white"]


def only_line(result: Result) -> str:
    assert len(result.stderr.splitlines()) == 1
    return str(result.stderr)


def test_nothing_to_classify(client: Client, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").touch()
    for name in ("empty", "texts", "absent"):
        result = client.run(inputs=(tmp_path / name,))
        assert result.exit_code == 2
        assert str(tmp_path / name) in only_line(result)


def test_no_server_no_model_and_another_kind_of_model(client: Client, start: Start) -> None:
    absent = client.run("--server", "127.0.0.1:1", "--retry-timeout", "0")
    assert absent.exit_code == 3
    assert "127.0.0.1:1" in only_line(absent)
    unknown = client.run("--model", "other", "--retry-timeout", "0")
    assert unknown.exit_code == 3
    assert "--model" in only_line(unknown)
    foreign = start(BrightnessModel(make_metadata(schema_version=9)))
    result = client.run("--server", foreign.address)
    assert result.exit_code == 3
    assert "upgrade" in only_line(result)
    assert not client.output.exists()


def test_a_local_model_that_does_not_exist(client: Client, tmp_path: Path) -> None:
    command = [str(client.images), "--output", str(client.output), "--local-server", str(tmp_path / "absent")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 3
    assert str(tmp_path / "absent") in only_line(result)
    assert CliRunner().invoke(main, [*command, "--server", "localhost:1"]).exit_code == 2


def test_an_output_that_cannot_be_written(client: Client, tmp_path: Path) -> None:
    client.output = tmp_path / "file"
    client.output.touch()
    result = client.run()
    assert result.exit_code == 2
    assert str(client.output) in only_line(result)
    client.output = tmp_path / "foreign"
    client.output.mkdir()
    for content in (b"a,b\n1,2\n", "path,status\n".encode("utf-16"), b"\xff\0"):
        (client.output / "predictions.csv").write_bytes(content)
        result = client.run("--overwrite")
        assert result.exit_code == 2
        assert "predictions.csv" in only_line(result)
        assert (client.output / "predictions.csv").read_bytes() == content
    client.output = client.images
    assert "also the output folder" in only_line(client.run())


@pytest.mark.parametrize("name", ["a,\"b'.png", "ä 🐈.png", "line\nbreak.png", "=cmd.png", os.fsdecode(b"\xff.png")])
def test_strange_names_get_one_row_each(start: Start, name: str) -> None:
    made = start(BrightnessModel(make_metadata()))
    write_picture(made.images / "black/plain.png", 250).rename(made.images / "black" / name)
    for _ in range(2):
        assert made.run().exit_code == 0
        assert len(made.rows()) == 1
        assert len(made.misses()) == 1
    assert made.model.images == 1
