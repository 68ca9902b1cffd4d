"""Rows in many files: merged in their order, and counted in parts as they are counted at once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from support import make_metadata

from classify_client.cluster.answer import images_per_part, plan_processes
from classify_client.cluster.machines.connection import LEAST_CPUS, Node
from classify_client.cluster.storage.location import make_folder
from classify_client.cluster.storage.parts import (
    Part,
    count_images,
    count_rows,
    find_parts,
    merge,
    rewrite,
    rows_of,
    to_part,
    with_copies,
)
from classify_client.cluster.storage.work_folder import Plan, WorkFolder, run_identity
from classify_client.cluster.tally import Counted, Limits, Tally, tally_parts
from classify_client.config import OutputOptions, RunConfig
from classify_client.inputs.selection import Selection
from classify_client.results.reader import MAX_UNCERTAIN, Item, Results
from classify_client.results.rows import Row
from classify_client.results.summary import RunCounts

CLASSES = ("black", "grey", "white")


def row_at(position: int) -> Row:
    """A row that depends on nothing but its position."""
    if position % 7 == 3:
        return Row(path=f"{position:03}.png", error="broken", model="m", model_version=1, model_created="now")
    predicted, true = CLASSES[position % 3], CLASSES[(position // 5) % 3]
    likeliest = round(0.4 + (position * 37 % 60) / 100, 6)
    others = [name for name in CLASSES if name != predicted]
    top = ((predicted, likeliest), (others[0], round((1 - likeliest) * 0.75, 6)))
    return Row(
        path=f"{position:03}.png",
        true_label=true,
        true_class=true,
        top=top,
        model="m",
        model_version=1,
        model_created="now",
        size=position,
        modified="1",
    )


def write(folder: Path, parts: Sequence[Sequence[int]]) -> list[Part]:
    for number, positions in enumerate(parts):
        table = to_part([row_at(at) for at in positions], positions, 2)
        parquet.write_table(table, folder / f"{number:03}.parquet")
    (folder / "broken.parquet").write_bytes(b"PAR1 half of a file")
    return find_parts(folder)


positions = st.lists(st.integers(0, 60), min_size=1, max_size=30)


@given(st.lists(positions, min_size=1, max_size=6))
def test_parts_are_merged_in_order_and_each_image_once(parts: list[list[int]]) -> None:
    with TemporaryDirectory() as folder:
        found = write(Path(folder), parts)
        assert count_rows(found) == sum(map(len, parts))
        expected = sorted(set().union(*parts))
        assert count_images(found) == len(expected)
        rows = [row for table in merge(found) for row in rows_of(with_copies(table, {}))]
        assert rows == [row_at(at) for at in expected]
        assert count_rows(rewrite(found, Path(folder) / "once")) == len(expected)


def test_names_of_copies_are_put_into_their_columns() -> None:
    table = to_part([row_at(at) for at in range(4)], range(4), 2)
    named = list(rows_of(with_copies(table, {"miss": {"002.png": "a.png"}, "review": {}})))
    assert [row.miss for row in named] == ["", "", "a.png", ""]
    assert [row.review for row in named] == [""] * 4


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 30), st.floats(0, 1))
def test_a_tally_of_parts_is_that_of_all_rows(sizes: list[int], most: int, below: float) -> None:
    total = sum(sizes)
    with TemporaryDirectory() as folder:
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        parts = write(Path(folder), [range(start, start + size) for start, size in zip(starts, sizes, strict=True)])
        counted, limits = (
            Counted(folder=Path(folder), root=Path(), precision="int8"),
            Limits(misses=most, review_below=below),
        )
        tally = Tally(RunCounts(), Results(Path(folder), {}))
        for part in parts:
            tally.merge(tally_parts(counted, limits, [part]), limits)
    counts, results = RunCounts(), Results(Path(folder), {})
    for at in range(total):
        counts.add(row_at(at), "int8")
        results.add(Item(row_at(at), Path(row_at(at).path), None, at))
    uncertain = [at for at in range(total) if row_at(at).is_answered and row_at(at).probability < below]
    counts.to_review = len(uncertain)
    assert tally.counts == counts
    assert len(tally.results.misses) == min(most, len(results.misses))
    surest = sorted(each.row.probability_of(each.row.true_class) - each.row.probability for each in results.misses)
    kept = sorted(each.row.probability_of(each.row.true_class) - each.row.probability for each in tally.results.misses)
    assert kept == surest[: len(kept)]
    assert [item.row for item in tally.results.uncertain] == [item.row for item in results.uncertain][:MAX_UNCERTAIN]
    assert tally.results.uncertain_count == results.uncertain_count
    assert tally.results.predictions == results.predictions
    assert [item.row for item in tally.results.unreadable] == [item.row for item in results.unreadable]
    assert {name: count for name, (count, _) in tally.results.labelled.items()} == {
        name: count for name, (count, _) in results.labelled.items()
    }
    assert len(tally.to_review) == min(most, len(uncertain))


@given(st.lists(st.integers(0, 64), min_size=1, max_size=12), st.integers(1, 64) | st.none(), st.integers(0, 64))
def test_processes_leave_processors_for_reading_and_writing(cpus: list[int], threads: int | None, used: int) -> None:
    if sum(cpus) < LEAST_CPUS:
        return
    machines = [Node(str(number), "host", count, 0) for number, count in enumerate(cpus)]
    free = max(LEAST_CPUS, sum(cpus) - used)
    planned = plan_processes(machines, free, threads)
    assert planned.count >= 1
    assert planned.threads == (threads or planned.threads)
    assert planned.count * planned.cpus <= free - 2 or planned.count == planned.cpus == 1


@given(st.integers(0, 10**9), st.integers(1, 1000))
def test_parts_are_small_enough_for_every_process(images: int, processes: int) -> None:
    size = images_per_part(images, processes)
    assert 64 <= size <= 8192
    assert size == 64 or size * processes * 16 <= max(images, 64 * processes * 16)


def test_a_table_of_rows_has_one_schema_without_rows_too() -> None:
    empty: pyarrow.Table = to_part([], [], 5)
    assert empty.schema == to_part([row_at(0)], [0], 5).schema


def begin(output: Path) -> WorkFolder:
    work = WorkFolder.begin(output)
    make_folder(work.rows)
    return work


def test_an_unfinished_run_is_continued_only_if_nothing_else_happened(tmp_path: Path) -> None:
    config = RunConfig(selection=Selection(("images",)), output=OutputOptions(output=tmp_path))
    plan = Plan(run=run_identity(config, make_metadata(), tmp_path), images=3, kept=0, skipped=0)
    assert WorkFolder.find(tmp_path) is None
    work = begin(tmp_path)
    assert WorkFolder.find(tmp_path) is None
    work.finish_plan(plan)
    assert WorkFolder.find(tmp_path) == work
    assert work.plan() == plan
    assert plan.run == run_identity(config, make_metadata(), tmp_path)
    assert plan.run != run_identity(config, make_metadata(model_version=2), tmp_path)
    # A list has other paths than before.
    (tmp_path / "list").write_text("images")
    listed = replace(config, selection=Selection((f"@{tmp_path}/list",)))
    before = run_identity(listed, make_metadata(), tmp_path)
    assert before == run_identity(listed, make_metadata(), tmp_path)
    (tmp_path / "list").write_text("other images")
    assert before != run_identity(listed, make_metadata(), tmp_path)
    (tmp_path / "list").unlink()
    # Another run has answered images in the meantime.
    (tmp_path / "predictions.csv").write_text("path")
    assert plan.run != run_identity(config, make_metadata(), tmp_path)
    # Copies of images are known to the next run, if this one is killed.
    for names in (("miss/a.png",), ("miss/b.png", "review/b.png")):
        with work.noting_copies() as note:
            note(names)
    assert work.made_copies() == {"miss/a.png", "miss/b.png", "review/b.png"}
    # Until the plan of the next run is complete, this one counts.
    following = begin(tmp_path)
    assert WorkFolder.find(tmp_path) == work
    following.finish_plan(plan)
    assert WorkFolder.find(tmp_path) == following
    assert not Path(str(work.folder)).exists()
    # What a kill leaves while the files are removed is no run.
    Path(str(following.plan_file)).unlink()
    assert WorkFolder.find(tmp_path) is None
    begin(tmp_path).finish_plan(plan)
    last = WorkFolder.find(tmp_path)
    assert last is not None
    last.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]
