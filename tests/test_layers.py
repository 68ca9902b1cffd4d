"""The layers of each package: a room imports only rooms below it. `make layers` prints them.

A room is a sub-folder or a top-level module of a package. All imports count: those inside functions and those for type
checkers too.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]

LAYERS: Final = {
    "classify_client": (
        "__init__",
        "__main__",
        "cli",
        "cluster",
        "run api",
        "after_run",
        "config report",
        "mistakes",
        "results",
        "inference inputs",
        "output_folder terminal",
        "errors",
    ),
    "classify_training": (
        "__init__",
        "__main__",
        "cli",
        "train quantization",
        "runs",
        "run_page",
        "audit",
        "export evaluation",
        "fitting",
        "model",
        "corrections embedding_map",
        "data",
        "settings progress",
        "config csv_files html_pages",
        "errors interrupts",
    ),
    "classify_serving": (
        "__init__",
        "__main__",
        "cli",
        "server review_page",
        "exchange",
        "contract files processor renamed_option tensorflow_import termination",
    ),
}
"""Rooms from top to bottom; rooms in one line do not import each other. A new room is put into its place here."""

FORBIDDEN: Final = {
    "classify_client": ("classify_training", "classify_serving.server", "tensorflow", "tensorflow_serving", "keras"),
    "classify_training": ("classify_client", "classify_serving.server"),
    "classify_serving": ("classify_client", "classify_training"),
    "classify_serving.contract": ("classify_client", "classify_training", "classify_serving"),
}
"""What a package or room never imports; what lies inside of itself is allowed."""

MOST_MODULES: Final = 12
"""In one folder, without its `__init__.py` and generated code."""


@dataclass(frozen=True)
class Import:
    """One name that a module imports; `target` is the full name, of a module or of something in it."""

    module: str
    line: int
    target: str

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}, imports {self.target}"


def folder_of(package: str) -> Path:
    """The folder of a package's source."""
    return ROOT / package.removeprefix("classify_") / package


def modules(package: str) -> dict[str, Path]:
    """Every module of a package by its full name; a folder's `__init__.py` has the folder's name."""
    folder = folder_of(package)
    found = {".".join(path.relative_to(folder.parent).with_suffix("").parts): path for path in folder.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in sorted(found.items())}


def imports(module: str, path: Path) -> Iterator[Import]:
    """Every import statement of a module, wherever it stands, one for each name."""
    for node in ast.walk(ast.parse(path.read_text(), path)):
        if isinstance(node, ast.Import):
            yield from (Import(module, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}, line {node.lineno}: imports are absolute"
            yield from (Import(module, node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def all_imports(package: str) -> list[Import]:
    """The imports of all modules of a package."""
    return [found for module, path in modules(package).items() for found in imports(module, path)]


def room(package: str, name: str) -> str:
    """The room in which a name of the package lies; what is in no room is of the package's own `__init__`."""
    first = name.removeprefix(package).strip(".").partition(".")[0]
    return first if first in rooms(package) else "__init__"


def rooms(package: str) -> set[str]:
    """The rooms that there are."""
    return {f"{name}.__init__".split(".")[1] for name in modules(package)}


def within(name: str, module: str) -> bool:
    """Whether a name is a module or lies in it."""
    return f"{name}.".startswith(f"{module}.")


@pytest.mark.parametrize("package", LAYERS)
def test_every_room_has_its_layer(package: str) -> None:
    listed = [name for line in LAYERS[package] for name in line.split()]
    assert sorted(listed) == sorted(rooms(package))


@pytest.mark.parametrize("package", LAYERS)
def test_a_room_imports_only_rooms_below_it(package: str) -> None:
    layer = {name: number for number, line in enumerate(LAYERS[package]) for name in line.split()}
    wrong = []
    for found in all_imports(package):
        # The version is stated in the package itself, which is imported before anything in it.
        if within(found.target, package) and found.target != f"{package}.__version__":
            here, there = room(package, found.module), room(package, found.target)
            if here != there and not layer.get(here, -1) < layer.get(there, -1):
                wrong.append(f"{found}: {there} is not below {here}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", LAYERS)
def test_modules_import_each_other_in_no_circle(package: str) -> None:
    names = modules(package)
    graph: dict[str, set[str]] = {name: set() for name in names}
    for found in all_imports(package):
        target = found.target if found.target in names else found.target.rpartition(".")[0]
        if target in names and target not in (package, found.module):
            graph[found.module].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("importer", FORBIDDEN)
def test_parts_meet_only_where_they_should(importer: str) -> None:
    wrong = [
        str(found)
        for found in all_imports(importer.partition(".")[0])
        if within(found.module, importer)
        and not within(found.target, importer)
        and any(within(found.target, other) for other in FORBIDDEN[importer])
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", LAYERS)
def test_no_folder_is_crowded(package: str) -> None:
    written = (path for path in modules(package).values() if not path.name.endswith(("__init__.py", "_pb2.py")))
    counts = Counter(path.parent for path in written)
    crowded = {str(folder.relative_to(ROOT)): count for folder, count in counts.items() if count > MOST_MODULES}
    assert not crowded


if __name__ == "__main__":
    for package, layers in LAYERS.items():
        print(f"{package}\n  " + "\n  ".join(line.replace(" ", "  ") for line in layers if not line.startswith("__")))
