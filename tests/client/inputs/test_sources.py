"""Every way of naming images gives the same kind of stream: in order, with labels, without holding them all."""

import gc
import io
import os
import random
import tarfile
import tracemalloc
import zipfile
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import write_picture

from classify_client.errors import InputError
from classify_client.inputs.patterns import read_paths
from classify_client.inputs.selection import Selection, matches, select
from classify_client.inputs.source import Source
from classify_client.inputs.sources import list_sources
from classify_serving.contract.images import ImageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with pictures in `images/cat`, `images/dog/2026` and a hidden one."""
    for name in ("cat/b.png", "cat/a.jpg", "dog/2026/[1].png", "z.png", "cat/.hidden.png", ".git/x.png"):
        write_picture(tmp_path / "images" / name, 5)
    (tmp_path / "images/cat/notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listed(*inputs: Any, **selection: Any) -> list[str]:
    return [source.name for source in list_sources(Selection(tuple(map(str, inputs)), **selection))]


ALL = ["z.png", "cat/a.jpg", "cat/b.png", "dog/2026/[1].png"]
GIVEN = [f"images/{name}" for name in ALL]


def test_a_folder_alone_and_folders_among_others(folder: Path) -> None:
    assert listed("images") == ALL
    assert listed("images", "images/cat") == [*GIVEN, *GIVEN[1:3]]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("images/**/*.png", [GIVEN[0], GIVEN[2], GIVEN[3]]),
        ("images/**", GIVEN),
        ("images/*", GIVEN),
        ("images/c*/?.*", GIVEN[1:3]),
        ("**/a.jpg", GIVEN[1:2]),
        ("images/[cd]*/**/[[]1].png", GIVEN[3:]),
    ],
)
def test_a_pattern_that_the_shell_left_alone(folder: Path, pattern: str, expected: list[str]) -> None:
    found = listed(pattern)
    assert found == expected
    assert listed(folder / pattern) == [str(folder / name) for name in found]


def test_a_name_with_brackets_is_no_pattern(folder: Path) -> None:
    assert listed("images/dog/2026/[1].png") == ["[1].png"]


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_lists_name_anything_but_patterns(folder: Path, separator: str) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write("images/z.png", "z.png")
    (folder / "list.txt").write_text(separator.join(["", "images/cat", "gone.png", "a.zip", "images/*", ""]))
    expected = ["images/cat/a.jpg", "images/cat/b.png", "gone.png", "a.zip/z.png", "images/*"]
    assert listed("@list.txt") == expected
    gone = list(list_sources(Selection(("@list.txt",))))[2]
    with pytest.raises(ImageError, match="no such file"):
        gone.decode(8, "stretch")


def test_standard_input_is_a_list(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"images/z.png\0new\nline.png\0\xff.png\0"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert listed("-") == ["images/z.png", "new\nline.png", "\\xff.png"]


@given(
    st.lists(st.binary(min_size=1, max_size=9).map(lambda name: name.replace(b"\0", b"x").replace(b"\r", b"y"))),
    st.integers(1, 9),
)
def test_any_names_survive_a_list(names: list[bytes], chunk: int) -> None:
    class Dribble(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            return self.read(chunk)

    names = [name.removeprefix(b"\xef\xbb\xbf") or b"x" for name in names]
    content = b"".join(name + b"\0" for name in names)
    newline = any(b"\n" in name for name in names)
    if not newline or chunk >= len(content):
        assert [os.fsencode(path) for path in read_paths(Dribble(content))] == names


def test_labels_come_from_all_folders_as_they_are_written(folder: Path) -> None:
    def folders(given: str) -> tuple[str, ...]:
        return list(list_sources(Selection((given,))))[-1].folders

    assert folders("images") == ("2026", "dog", "images")
    assert folders("images/dog/2026/[1].png") == ("2026", "dog", "images")
    assert folders("images/dog/**/*.png") == ("2026", "dog", "images")
    os.chdir(folder / "images/dog/2026")
    assert folders("[1].png") == ("2026",)


def pack(path: Path, files: dict[str, bytes]) -> Path:
    """Write an archive of the kind that its name says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        kind = path.suffix[1:] if path.suffix != ".tar" else ""
        with tarfile.open(path, f"w:{kind}") as tar:  # type: ignore[call-overload]
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


ISSUE_TYPES = ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"]


@pytest.mark.parametrize("kind", ISSUE_TYPES)
def test_archives_are_read_in_place(folder: Path, kind: str) -> None:
    picture = (folder / "images/z.png").read_bytes()
    files = {
        "cat/2.png": picture,
        "notes.txt": b"x",
        "__MACOSX/cat/._2.png": b"x",
        "cat/1.png": b"broken",
        "3.png": picture,
    }
    pack(folder / kind, files)
    sources = list(list_sources(Selection((kind,))))
    assert [source.name for source in sources] == [f"{kind}/{name}" for name in ("cat/2.png", "cat/1.png", "3.png")]
    assert [source.folders for source in sources] == [("cat", "a"), ("cat", "a"), ("a",)]
    assert all(source.stamp[1] for source in sources)
    assert sources[0].decode(8, "stretch").max() == 5
    with pytest.raises(ImageError, match="not an image"):
        sources[1].decode(8, "stretch")
    assert sources[2].decode(8, "stretch").max() == 5
    assert listed(folder / kind, "images/z.png")[0] == f"{folder / kind}/cat/2.png"
    assert listed("*.zip" if kind == "a.zip" else "*.tar*")[0] == f"{kind}/cat/2.png"


@pytest.mark.parametrize("kind", ISSUE_TYPES)
def test_broken_archives_are_told_in_a_sentence_or_a_row(folder: Path, kind: str) -> None:
    noise = random.Random(1)
    whole = pack(folder / kind, {f"{number}.png": noise.randbytes(20_000) for number in range(9)}).read_bytes()
    for content in (b"", b"none", whole[:20]):
        (folder / kind).write_bytes(content)
        with pytest.raises(InputError, match=r"is broken or not an archive"):
            list(list_sources(Selection((kind,))))
    for number in range(40):
        damaged = bytearray(whole[: noise.randrange(30_000, len(whole))] if number % 2 else whole)
        for _ in range(number % 7):
            damaged[noise.randrange(2000, len(damaged))] ^= 0xFF
        (folder / kind).write_bytes(damaged)
        with suppress(InputError):
            for source in list_sources(Selection((kind,))):
                with pytest.raises(ImageError):
                    source.decode(8, "stretch")


def test_what_a_compressed_tar_holds_is_not_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classify_client.inputs.archives._SPOOL", 100_000)
    noise = random.Random(1)
    files = {f"{number}.png": noise.randbytes(60_000) for number in range(100)}
    pack(folder / "a.tar.gz", files)
    tracemalloc.start()
    sources = list(list_sources(Selection(("a.tar.gz",))))
    assert tracemalloc.get_traced_memory()[1] < 3e6
    tracemalloc.stop()
    opened = len(os.listdir("/proc/self/fd"))
    for source, expected in reversed(list(zip(sources, files.values(), strict=True))):
        assert not isinstance(source.original, Path)
        with source.original() as file:
            assert file.read() == expected
    del sources, source
    assert len(os.listdir("/proc/self/fd")) < opened - 30, "each file goes with its last image"


def test_a_tar_that_breaks_off_says_so(folder: Path) -> None:
    picture = (folder / "images/z.png").read_bytes()
    whole = pack(folder / "a.tar", {f"{number}.png": picture for number in range(4)}).read_bytes()
    for damaged in (whole[:1300], whole[:1024] + b"x" * 512 + whole[1536:]):
        (folder / "a.tar").write_bytes(damaged)
        *good, last = list_sources(Selection(("a.tar",)))
        assert len(good) == 1 or len(good) == 2
        assert last.name == "a.tar"
        with pytest.raises(ImageError, match=f"archive broken after {len(good)} images"):
            last.decode(8, "stretch")


def only_reason(kind: Path) -> str:
    (source,) = list_sources(Selection((str(kind),)))
    with pytest.raises(ImageError) as raised:
        source.decode(8, "stretch")
    return raised.value.reason


def test_encrypted_members_links_and_bombs_are_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classify_client.inputs.archives.CONTENT_LIMIT", 1024**2)
    path = pack(folder / "a.zip", {"1.png": b"secret"})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    assert "encrypted" in only_reason(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("1.png", "w") as file:
        file.write(bytes(2 * 1024**2))
    assert "more than 1 MiB" in only_reason(path)
    with tarfile.open(folder / "a.tar", "w") as tar:
        info = tarfile.TarInfo("1.png")
        info.size = 2 * 1024**2
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    assert "more than 1 MiB" in only_reason(folder / "a.tar")
    with tarfile.open(folder / "a.tar", "w") as tar:
        info = tarfile.TarInfo("1.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    assert "link" in only_reason(folder / "a.tar")


def test_filters_limit_and_sample(folder: Path) -> None:
    assert listed("images", include=("*.png",)) == [ALL[0], ALL[2], ALL[3]]
    assert listed("images", include=("cat/*", "z.*"), exclude=("b.png",)) == ALL[:2]
    assert listed("images", limit=2) == ALL[:2]
    with pytest.raises(InputError, match="--include and --exclude"):
        listed("images", exclude=("*",))
    shuffled = listed("images", shuffle=1)
    assert sorted(shuffled) == sorted(ALL)
    assert listed("images", shuffle=1, limit=3) == shuffled[:3]
    assert len({tuple(listed("images", shuffle=seed)) for seed in range(9)}) > 3
    (folder / "images/z.png").unlink()
    assert listed("images", shuffle=1) == [name for name in shuffled if name != "z.png"]


def test_a_pattern_is_about_the_name_or_the_path() -> None:
    assert matches("a/b.png", "*.png")
    assert matches("a/b/c.png", "a/*.png")
    assert not matches("a/b.png", "a*")


def test_a_sample_holds_no_more_than_itself_and_a_limit_reads_no_further() -> None:
    class Item:
        def __init__(self, number: int) -> None:
            self.name = f"{number:09}"

    tracemalloc.start()
    sample = list(select((Item(number) for number in range(50_000)), Selection((), limit=5, shuffle=0)))
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
    assert len(sample) == 5
    rest = iter(map(Item, range(9)))
    assert [item.name for item in select(rest, Selection((), limit=2))] == ["000000000", "000000001"]
    assert next(rest).name == "000000002"


def test_a_compressed_tar_cannot_be_shuffled(folder: Path) -> None:
    pack(folder / "a.tar.gz", {"1.png": b"x"})
    with pytest.raises(InputError, match="front to back"):
        listed("a.tar.gz", shuffle=1)


def test_listing_holds_names_only(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"{number}.png").touch()
    before = sum(isinstance(each, Source | Path) for each in gc.get_objects())
    sources = list_sources(Selection((str(tmp_path),)))
    assert len(list(islice(sources, 250))) == 250
    assert sum(isinstance(each, Source | Path) for each in gc.get_objects()) < before + 20
    assert len(list(sources)) == 250


@pytest.mark.parametrize("given", ["@gone.txt", "gone", "gone.zip", "s4://x/y", "gone/**/*.png"])
def test_mistyped_inputs_are_named(folder: Path, given: str) -> None:
    with pytest.raises(InputError) as raised:
        listed(given)
    assert given.lstrip("@") in str(raised.value)
