"""The local server of a review page: decisions are written at once, and nothing but the review's images is sent."""

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from review_support import make_row, write_dataset, write_review_folder

from classify_serving.exchange.review import ReviewRow, read_review, write_review
from classify_serving.files import locked, sha256_of
from classify_serving.review_page.apply_command import apply_review
from classify_serving.review_page.page import PageRow, page_data
from classify_serving.review_page.review_file import Key, ReviewFile
from classify_serving.review_page.server import ReviewServer, image_of


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_dataset(tmp_path / "data", {"black": (250, 251), "grey": (252,)})


@pytest.fixture
def rows(files: list[Path], tmp_path: Path) -> list[ReviewRow]:
    return [make_row(file, tmp_path / "data") for file in files]


def key_of(row: ReviewRow) -> Key:
    return row.sha256, row.label, row.path


class Window:
    """A browser window, as far as the server can tell."""

    def __init__(self, server: ReviewServer) -> None:
        self.server = server
        self.version = -1

    def ask(self, path: str, content: Any = None, token: str = "", **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=60)
        body = None if content is None else json.dumps(content)
        connection.request(
            "GET" if content is None else "POST",
            f"/{token or self.server.token}/{path}",
            body,
            {"Content-Type": "application/json"} | headers if body else headers,
        )
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    def decide(self, row: ReviewRow, action: str) -> tuple[int, dict[str, Any]]:
        decisions = [{"key": key_of(row), "action": action}]
        status, content = self.ask("decisions", {"version": self.version, "decisions": decisions})
        return status, self._noted(content)

    def look(self) -> dict[str, Any]:
        return self._noted(self.ask(f"decisions?since={self.version}")[1])

    def _noted(self, content: bytes) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(content)
        self.version = found.get("version", self.version)
        return found


@pytest.fixture
def server(rows: list[ReviewRow], tmp_path: Path) -> Iterator[ReviewServer]:
    folder = write_review_folder(tmp_path / "audited", rows)
    review = ReviewFile(folder / "review.csv")
    with ReviewServer((folder / "report.html").read_bytes(), review, lambda is_dry_run: ("", False)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def actions(server: ReviewServer) -> list[str]:
    return [row.action for row in read_review(server.review.path)]


def test_a_decision_is_written_at_once_and_other_windows_learn_of_it(
    server: ReviewServer, rows: list[ReviewRow]
) -> None:
    one, other = Window(server), Window(server)
    assert len(one.look()["rows"]) == len(other.look()["rows"]) == 3
    assert one.decide(rows[0], "keep")[0] == 200
    assert actions(server) == ["keep", "", ""]
    assert other.look()["changes"] == [[[rows[0].sha256, rows[0].label, rows[0].path], "keep"]]
    assert other.look()["changes"] == []
    other.decide(rows[1], "relabel:grey")
    other.decide(rows[0], "")
    assert actions(server) == ["", "relabel:grey", ""]
    assert [action for _, action in one.look()["changes"]] == ["relabel:grey", ""]


def test_changes_by_other_programs_are_taken_over_and_not_overwritten(
    server: ReviewServer, rows: list[ReviewRow]
) -> None:
    window = Window(server)
    window.look()
    write_review(server.review.path, [replace(rows[2], action="delete"), rows[1]])
    status, found = window.decide(rows[1], "keep")
    assert status == 200
    assert [row["path"] for row in found["rows"]] == [rows[2].path, rows[1].path]
    assert actions(server) == ["delete", "keep"]
    # The row that is gone takes no decision, does not come back, and the window learns of it.
    assert window.decide(rows[0], "keep")[1]["refused"] == [[rows[0].sha256, rows[0].label, rows[0].path]]
    assert actions(server) == ["delete", "keep"]


def test_windows_of_an_earlier_server_learn_of_all_decisions(server: ReviewServer, rows: list[ReviewRow]) -> None:
    window = Window(server)
    window.decide(rows[0], "keep")
    window.decide(rows[1], "keep")
    write_review(server.review.path, [replace(row, action="delete") for row in rows])
    restarted = ReviewFile(server.review.path)
    restarted.decide([(key_of(rows[0]), "keep")], -1)
    found = restarted.since(window.version)
    assert [row.action for row in found["rows"]] == ["keep", "delete", "delete"]
    # The clock was set back meanwhile.
    assert restarted.since(found["version"] + 10**9)["rows"] == found["rows"]


def test_what_is_no_action_is_refused_and_nothing_is_written(server: ReviewServer, rows: list[ReviewRow]) -> None:
    window = Window(server)
    status, found = window.decide(rows[0], "burn")
    assert (status, found["refused"]) == (200, [[rows[0].sha256, rows[0].label, rows[0].path]])
    for content in ({"version": 0}, {"version": 0, "decisions": [{"key": ["x"], "action": "keep"}]}, 3):
        assert window.ask("decisions", content)[0] == 400
    assert actions(server) == ["", "", ""]


def test_a_decision_changes_one_cell_of_the_file(server: ReviewServer, rows: list[ReviewRow]) -> None:
    path = server.review.path
    # As a spreadsheet saves it, with a column of its user, one line twice, and one that is too short.
    short = f"note;sha256;label;action\r\n;{rows[1].sha256};{rows[1].label}\r\n"
    line = f"'=ask Ann;{rows[0].sha256};{rows[0].label};\r\n"
    path.write_text(short + 2 * line, newline="")
    first, second = replace(rows[0], path=""), replace(rows[1], path="")
    window = Window(server)
    assert window.decide(first, "delete")[0] == window.decide(second, "relabel:=x")[0] == 200
    decided = line.replace(";\r", ";delete\r")
    expected = short.replace(f"{second.label}\r", f"{second.label};relabel:=x\r") + 2 * decided
    assert path.read_bytes().decode() == expected


def test_a_link_to_a_review_stays_one(server: ReviewServer, rows: list[ReviewRow], tmp_path: Path) -> None:
    server.review.path.rename(tmp_path / "elsewhere.csv")
    server.review.path.symlink_to(tmp_path / "elsewhere.csv")
    assert Window(server).decide(rows[0], "keep")[0] == 200
    assert server.review.path.is_symlink()
    assert [row.action for row in read_review(tmp_path / "elsewhere.csv")] == ["keep", "", ""]


def test_while_another_command_writes_to_the_folder_decisions_wait(server: ReviewServer, rows: list[ReviewRow]) -> None:
    window = Window(server)
    with locked(server.review.path.parent):
        status, found = window.decide(rows[0], "keep")
    assert status == 409
    assert "another command is writing" in found["error"]
    assert window.decide(rows[0], "keep")[0] == 200


def test_only_the_images_of_the_review_are_sent(server: ReviewServer, rows: list[ReviewRow], tmp_path: Path) -> None:
    window = Window(server)
    assert window.ask(f"image/{rows[0].sha256}") == (200, Path(rows[0].file).read_bytes())
    for path in (
        f"image/{'0' * 64}",
        "image/0",
        "image/",
        f"image/{rows[0].path}",
        "image/../../review.csv",
        "../../etc/passwd",
        "review.csv",
    ):
        assert window.ask(path)[0] == 404
    # A file that is another one now, and a text of which the review knows the hash.
    secret = tmp_path / "secret.png"
    secret.write_text("password")
    Image.new("RGB", (9, 9)).save(rows[1].file)
    rows[2] = replace(rows[2], file=str(secret), sha256=sha256_of(secret))
    write_review(server.review.path, rows)
    assert [window.ask(f"image/{row.sha256}")[0] for row in rows] == [200, 404, 404]


def test_a_format_that_browsers_do_not_show_is_converted(server: ReviewServer, rows: list[ReviewRow]) -> None:
    file = Path(rows[0].file).with_suffix(".tiff")
    Image.new("RGB", (9, 9), (7, 7, 7)).save(file)
    row = make_row(file, file.parents[1])
    write_review(server.review.path, [row])
    status, content = Window(server).ask(f"image/{row.sha256}")
    assert (status, content[:4]) == (200, b"\x89PNG")


def test_without_the_secret_or_under_another_name_nothing_is_sent(server: ReviewServer, rows: list[ReviewRow]) -> None:
    window = Window(server)
    assert window.ask("", token="wrong")[0] == 404
    assert window.ask("", Host="evil.example")[0] == 404
    # A form on another site can send a request, but not of this type.
    form = {"Content-Type": "text/plain"}
    assert window.ask("decisions", {"version": 0, "decisions": []}, **form)[0] == 404
    assert window.ask("", token="wrong/../")[0] == 404
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request("GET", f"/{server.token}")
    assert connection.getresponse().headers["Location"] == f"/{server.token}/"
    connection.close()
    status, page = window.ask("")
    assert status == 200
    assert b"data-served" in page
    assert b"connect-src 'self'" in page


def test_a_server_that_is_started_anew_has_the_same_address(rows: list[ReviewRow], tmp_path: Path) -> None:
    folder = write_review_folder(tmp_path / "audited", rows)
    command = [sys.executable, "-m", "classify_client", "review", str(folder), "--no-open"]
    lines = []
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines.append(process.stdout.readline())
            # Ctrl-C is ignored by what a shell starts in the background.
            process.terminate()
            assert process.wait(60) == 0
    assert lines[0].startswith("Decide here: http://127.0.0.1:")
    assert lines[0] == lines[1]
    assert (folder / ".review-address.json").stat().st_mode & 0o077 == 0
    for options, reason in {("--dataset", "nowhere"): "nowhere: correct --dataset", ("--add",): "--add needs"}.items():
        result = subprocess.run([*command, *options], capture_output=True, text=True, cwd=tmp_path)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert reason in result.stderr
    (folder / "review.csv").unlink()
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "review.csv is missing" in result.stderr
    write_review_folder(folder, [])
    (folder / "review.csv").unlink()
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Nothing to decide")


def test_applying_can_add_images_to_another_dataset(rows: list[ReviewRow], files: list[Path], tmp_path: Path) -> None:
    folder = write_review_folder(tmp_path / "classified", [replace(rows[0], action="relabel:white")])
    dataset = tmp_path / "dataset"
    write_dataset(dataset, {"black": [1], "white": [200]})
    for adds in (False, True):
        text, _ = apply_review(folder / "review.csv", dataset, is_dry_run=False, adds=adds)
        assert text.startswith(f"In the folder {dataset}:")
        assert len(list((dataset / "white").iterdir())) == 1 + adds
    assert files[0].is_file()


def test_images_that_a_container_has_judged_are_found_in_the_dataset_that_is_named(
    rows: list[ReviewRow], files: list[Path], tmp_path: Path
) -> None:
    there = [replace(row, file=f"/in-the-container/{row.path}") for row in rows]
    folder = write_review_folder(tmp_path / "audited", rows)
    write_review(folder / "review.csv", [*there, replace(there[0], path="../outside.png", sha256="0" * 64)])
    (tmp_path / "outside.png").write_text("private")
    review = ReviewFile(folder / "review.csv", tmp_path / "data")
    for row, file in zip(rows, files, strict=True):
        assert image_of(review.files_of(row.sha256)[0], row.sha256) == (file.read_bytes(), "image/png")
    assert not any(image_of(path, "0" * 64) for path in review.files_of("0" * 64))
    write_review(folder / "review.csv", there)
    command = [sys.executable, "-m", "classify_client", "review", str(folder), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Decide here: http://127.0.0.1:")
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert said == "The images were in /in-the-container, which is not here: give their folder with --dataset.\n"


@given(st.text(), st.text())
def test_no_text_can_leave_the_data_of_the_page(label: str, path: str) -> None:
    row = ReviewRow(path=path, label=label, sha256="0" * 64, reason="</script><!--")
    text = page_data([PageRow(row=row)], [label], Path())
    assert "<" not in text
    found = json.loads(text)
    assert (found["rows"][0]["path"], found["labels"]) == (path, [label])
