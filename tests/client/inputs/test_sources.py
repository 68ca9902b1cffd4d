"""Listing of all kinds of inputs: images come in order, with their labels, and as a stream."""

import gc
import io
import os
import random
import tarfile
import zipfile
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import lowest_peak, write_picture

from classify_client.errors import InputError
from classify_client.inputs.patterns import read_paths
from classify_client.inputs.selection import Selection, matches, select
from classify_client.inputs.source import Source
from classify_client.inputs.sources import list_sources
from classify_serving.contract.images import ImageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with images in `images` and its folders, and hidden ones."""
    for name in ("cat/b.png", "cat/a.jpg", "dog/2026/[1].png", "z.png", "cat/.hidden.png", ".git/x.png"):
        write_picture(tmp_path / "images" / name, 5)
    (tmp_path / "images/cat/notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def list_names(*inputs: Any, **selection: Any) -> list[str]:
    return [source.name for source in list_sources(Selection(tuple(map(str, inputs)), **selection))]


NAMES = ["z.png", "cat/a.jpg", "cat/b.png", "dog/2026/[1].png"]
PATHS = [f"images/{name}" for name in NAMES]


def test_names_are_relative_to_a_single_input_and_paths_as_given_for_several(folder: Path) -> None:
    assert list_names("images") == NAMES
    assert list_names("images", "images/cat") == [*PATHS, *PATHS[1:3]]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("images/**/*.png", [PATHS[0], PATHS[2], PATHS[3]]),
        ("images/**", PATHS),
        ("images/*", PATHS),
        ("images/c*/?.*", PATHS[1:3]),
        ("**/a.jpg", PATHS[1:2]),
        ("images/[cd]*/**/[[]1].png", PATHS[3:]),
    ],
)
def test_a_pattern_that_the_shell_did_not_expand_is_expanded(folder: Path, pattern: str, expected: list[str]) -> None:
    names = list_names(pattern)
    assert names == expected
    assert list_names(folder / pattern) == [str(folder / name) for name in names]


def test_the_name_of_an_existing_file_is_not_a_pattern(folder: Path) -> None:
    assert list_names("images/dog/2026/[1].png") == ["[1].png"]


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_a_list_can_name_files_folders_and_archives_but_no_patterns(folder: Path, separator: str) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write("images/z.png", "z.png")
    (folder / "list.txt").write_text(separator.join(["", "images/cat", "gone.png", "a.zip", "images/*", ""]))
    expected = ["images/cat/a.jpg", "images/cat/b.png", "gone.png", "a.zip/z.png", "images/*"]
    assert list_names("@list.txt") == expected
    missing = list(list_sources(Selection(("@list.txt",))))[2]
    with pytest.raises(ImageError, match="no such file"):
        missing.decode(8, "stretch")


def test_a_list_is_read_from_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"images/z.png\0new\nline.png\0\xff.png\0"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert list_names("-") == ["images/z.png", "new\nline.png", "\\xff.png"]


@given(
    st.lists(st.binary(min_size=1, max_size=9).map(lambda name: name.replace(b"\0", b"x").replace(b"\r", b"y"))),
    st.integers(1, 9),
)
def test_any_file_names_can_be_read_from_a_list(names: list[bytes], chunk: int) -> None:
    class SlowStream(io.BytesIO):
        """Returns at most `chunk` bytes at a time."""

        def read1(self, size: int | None = -1) -> bytes:
            return self.read(chunk)

    names = [name.removeprefix(b"\xef\xbb\xbf") or b"x" for name in names]
    content = b"".join(name + b"\0" for name in names)
    newline = any(b"\n" in name for name in names)
    if not newline or chunk >= len(content):
        assert [os.fsencode(path) for path in read_paths(SlowStream(content))] == names


def test_the_folders_of_a_source_are_those_of_the_path_as_given(folder: Path) -> None:
    def folders(path: str) -> tuple[str, ...]:
        return list(list_sources(Selection((path,))))[-1].folders

    assert folders("images") == ("2026", "dog", "images")
    assert folders("images/dog/2026/[1].png") == ("2026", "dog", "images")
    assert folders("images/dog/**/*.png") == ("2026", "dog", "images")
    os.chdir(folder / "images/dog/2026")
    assert folders("[1].png") == ("2026",)


def pack(path: Path, files: dict[str, bytes]) -> Path:
    """Write an archive of these files, in the format of the path's extension; gives the path."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        compression = path.suffix[1:] if path.suffix != ".tar" else ""
        with tarfile.open(path, f"w:{compression}") as tar:  # type: ignore[call-overload]
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


ARCHIVES = ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"]


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_are_read_without_unpacking_them(folder: Path, name: str) -> None:
    picture = (folder / "images/z.png").read_bytes()
    files = {
        "cat/2.png": picture,
        "notes.txt": b"x",
        "__MACOSX/cat/._2.png": b"x",
        "cat/1.png": b"broken",
        "3.png": picture,
    }
    pack(folder / name, files)
    sources = list(list_sources(Selection((name,))))
    assert [source.name for source in sources] == [f"{name}/{member}" for member in ("cat/2.png", "cat/1.png", "3.png")]
    assert [source.folders for source in sources] == [("cat", "a"), ("cat", "a"), ("a",)]
    assert all(source.stamp[1] for source in sources)
    assert sources[0].decode(8, "stretch").max() == 5
    with pytest.raises(ImageError, match="not an image"):
        sources[1].decode(8, "stretch")
    assert sources[2].decode(8, "stretch").max() == 5
    assert list_names(folder / name, "images/z.png")[0] == f"{folder / name}/cat/2.png"
    assert list_names("*.zip" if name == "a.zip" else "*.tar*")[0] == f"{name}/cat/2.png"


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_broken_archive_is_an_input_error_or_each_of_its_images_is_an_error(folder: Path, name: str) -> None:
    noise = random.Random(1)
    complete = pack(folder / name, {f"{number}.png": noise.randbytes(20_000) for number in range(9)}).read_bytes()
    for content in (b"", b"none", complete[:20]):
        (folder / name).write_bytes(content)
        with pytest.raises(InputError, match=r"is broken or not an archive"):
            list(list_sources(Selection((name,))))
    for number in range(40):
        damaged = bytearray(complete[: noise.randrange(30_000, len(complete))] if number % 2 else complete)
        for _ in range(number % 7):
            damaged[noise.randrange(2000, len(damaged))] ^= 0xFF
        (folder / name).write_bytes(damaged)
        with suppress(InputError):
            for source in list_sources(Selection((name,))):
                with pytest.raises(ImageError):
                    source.decode(8, "stretch")


def test_the_content_of_a_compressed_tar_is_not_held_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classify_client.inputs.archives._SPOOL", 100_000)
    noise = random.Random(1)
    files = {f"{number}.png": noise.randbytes(60_000) for number in range(100)}
    pack(folder / "a.tar.gz", files)
    assert lowest_peak(lambda: list(list_sources(Selection(("a.tar.gz",))))) < 3e6
    sources = list(list_sources(Selection(("a.tar.gz",))))
    open_files = len(os.listdir("/proc/self/fd"))
    for source, expected in reversed(list(zip(sources, files.values(), strict=True))):
        assert not isinstance(source.original, Path)
        with source.original() as file:
            assert file.read() == expected
    del sources, source
    assert len(os.listdir("/proc/self/fd")) < open_files - 30, "each temporary file is closed with its last image"


def test_a_damaged_tar_ends_with_an_error_after_its_readable_images(folder: Path) -> None:
    picture = (folder / "images/z.png").read_bytes()
    complete = pack(folder / "a.tar", {f"{number}.png": picture for number in range(4)}).read_bytes()
    for damaged in (complete[:1300], complete[:1024] + b"x" * 512 + complete[1536:]):
        (folder / "a.tar").write_bytes(damaged)
        *images, broken_source = list_sources(Selection(("a.tar",)))
        assert len(images) == 1 or len(images) == 2
        assert broken_source.name == "a.tar"
        with pytest.raises(ImageError, match=f"archive broken after {len(images)} images"):
            broken_source.decode(8, "stretch")


def error_of_only_image(archive: Path) -> str:
    """The reason why the only image of an archive cannot be decoded."""
    (source,) = list_sources(Selection((str(archive),)))
    with pytest.raises(ImageError) as raised:
        source.decode(8, "stretch")
    return raised.value.reason


def test_encrypted_oversized_and_linked_members_are_errors_of_one_image(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classify_client.inputs.archives.CONTENT_LIMIT", 1024**2)
    path = pack(folder / "a.zip", {"1.png": b"secret"})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    assert "encrypted" in error_of_only_image(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("1.png", "w") as file:
        file.write(bytes(2 * 1024**2))
    assert "more than 1 MiB" in error_of_only_image(path)
    with tarfile.open(folder / "a.tar", "w") as tar:
        info = tarfile.TarInfo("1.png")
        info.size = 2 * 1024**2
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    assert "more than 1 MiB" in error_of_only_image(folder / "a.tar")
    with tarfile.open(folder / "a.tar", "w") as tar:
        info = tarfile.TarInfo("1.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    assert "link" in error_of_only_image(folder / "a.tar")


def test_include_exclude_limit_and_shuffle_select_images(folder: Path) -> None:
    assert list_names("images", include=("*.png",)) == [NAMES[0], NAMES[2], NAMES[3]]
    assert list_names("images", include=("cat/*", "z.*"), exclude=("b.png",)) == NAMES[:2]
    assert list_names("images", limit=2) == NAMES[:2]
    with pytest.raises(InputError, match="--include and --exclude"):
        list_names("images", exclude=("*",))
    shuffled = list_names("images", shuffle=1)
    assert sorted(shuffled) == sorted(NAMES)
    assert list_names("images", shuffle=1, limit=3) == shuffled[:3]
    assert len({tuple(list_names("images", shuffle=seed)) for seed in range(9)}) > 3
    (folder / "images/z.png").unlink()
    assert list_names("images", shuffle=1) == [name for name in shuffled if name != "z.png"]


def test_a_pattern_matches_the_file_name_or_the_path() -> None:
    assert matches("a/b.png", "*.png")
    assert matches("a/b/c.png", "a/*.png")
    assert not matches("a/b.png", "a*")


def test_only_the_sample_is_held_in_memory_and_nothing_is_listed_beyond_the_limit() -> None:
    class NamedItem:
        def __init__(self, number: int) -> None:
            self.name = f"{number:09}"

    def sample() -> list[NamedItem]:
        return list(select((NamedItem(number) for number in range(50_000)), Selection((), limit=5, shuffle=0)))

    assert lowest_peak(sample) < 1e6
    assert len(sample()) == 5
    items = iter(map(NamedItem, range(9)))
    assert [item.name for item in select(items, Selection((), limit=2))] == ["000000000", "000000001"]
    assert next(items).name == "000000002"


def test_a_compressed_tar_cannot_be_shuffled(folder: Path) -> None:
    pack(folder / "a.tar.gz", {"1.png": b"x"})
    with pytest.raises(InputError, match="front to back"):
        list_names("a.tar.gz", shuffle=1)


def test_listing_a_folder_creates_sources_only_as_needed(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"{number}.png").touch()
    before = sum(isinstance(each, Source | Path) for each in gc.get_objects())
    sources = list_sources(Selection((str(tmp_path),)))
    assert len(list(islice(sources, 250))) == 250
    assert sum(isinstance(each, Source | Path) for each in gc.get_objects()) < before + 20
    assert len(list(sources)) == 250


@pytest.mark.parametrize("given", ["@gone.txt", "gone", "gone.zip", "s4://x/y", "gone/**/*.png"])
def test_a_missing_input_is_named_in_the_error(folder: Path, given: str) -> None:
    with pytest.raises(InputError) as raised:
        list_names(given)
    assert given.lstrip("@") in str(raised.value)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_a_changed_byte_in_a_compressed_archive_is_noticed(folder: Path, name: str) -> None:
    pack(folder / name, {"1.png": b"x" * 1000})
    content = bytearray((folder / name).read_bytes())
    # The checksum of gzip is in its last eight bytes; bzip2 and xz have theirs near the end too.
    content[-6] ^= 1
    (folder / name).write_bytes(content)
    *_, last = list_sources(Selection((name,)))
    assert last.name == name
    with pytest.raises(ImageError, match="archive broken after 1 images"):
        last.decode(8, "stretch")
