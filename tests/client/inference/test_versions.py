"""--model-version and --version-label: every request of a run asks for the same version."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from client_support import Client
from server_support import EmbeddingModel
from support import write_picture

from classify_client import classify
from classify_client.cli.main import main
from classify_serving.server.models.registry import Models
from classify_serving.server.server import ModelServer

OLD, NEW = "2026-01-01T00:00:00+00:00", "2026-02-02T00:00:00+00:00"


@dataclass
class Served:
    """A client, and the two versions on its server: 1, labelled `stable`, and 2."""

    client: Client
    models: Models
    versions: dict[int, EmbeddingModel]

    def label(self, **labels: int) -> None:
        """Replace the labels on the server."""
        (name,) = self.models.current
        self.models.current = {name: replace(self.models.current[name], labels=labels)}

    def asked(self) -> tuple[int, int]:
        """The number of images that each version has received so far."""
        return self.versions[1].images, self.versions[2].images

    def rows(self) -> set[tuple[str, str]]:
        return {(row["model_version"], row["model_created"]) for row in self.client.rows()}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    for index in range(3):
        write_picture(tmp_path / f"images/white/{index}.png", 250)
    versions = {
        1: EmbeddingModel(model_version=1, created=OLD, image_size=16),
        2: EmbeddingModel(model_version=2, created=NEW),
    }
    models = Models(*(model.servable() for model in versions.values()))
    with ModelServer(models) as server:
        client = Client(versions[1], server.address, tmp_path / "images", tmp_path / "out")
        found = Served(client, models, versions)
        found.label(stable=1)
        yield found


@pytest.mark.parametrize("choice", [("--version-label", "stable"), ("--model-version", "1")])
def test_metadata_predictions_and_embeddings_come_from_the_chosen_version(
    served: Served, choice: tuple[str, str]
) -> None:
    result = served.client.run(*choice, "--embed")
    assert (result.exit_code, result.stderr) == (0, "")
    assert served.rows() == {("1", OLD)}
    assert served.asked() == (3, 0)
    assert (set(served.versions[1].sizes), served.versions[2].sizes) == ({16}, [])
    assert (served.client.output / "embeddings.npy").exists()
    key = choice[0].removeprefix("--").replace("-", "_")
    assert str(served.client.summary()["arguments"][key]) == choice[1]


def test_without_a_choice_the_newest_version_answers(served: Served) -> None:
    served.client.run()
    assert served.rows() == {("2", NEW)}


def test_a_run_resumes_only_answers_of_the_version_that_it_asks(served: Served) -> None:
    stable = ("--version-label", "stable")
    served.client.run(*stable)
    served.client.run(*stable)
    assert served.asked() == (3, 0)
    served.client.run("--model-version", "1")
    assert served.asked() == (3, 0), "the same version under another name"
    served.client.run("--model-version", "2")
    assert (served.asked(), served.rows()) == ((3, 3), {("2", NEW)})
    served.label(stable=2)
    served.client.run(*stable)
    assert served.asked() == (3, 3), "the label has moved to the version that has answered"
    served.label(stable=1)
    served.client.run(*stable)
    assert (served.asked(), served.rows()) == ((6, 3), {("1", OLD)})


def test_python_chooses_a_version(served: Served) -> None:
    picture = served.client.images / "white/0.png"
    for choice, version in (({"version_label": "stable"}, 1), ({"model_version": 1}, 1), ({}, 2)):
        (result,) = classify([picture], served.client.address, **choice)
        assert result.model_version == version
    with pytest.raises(ValueError, match="not both"):
        next(classify([picture], served.client.address, model_version=1, version_label="stable"))


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        (("--version-label", "no"), "has no version with this label (Unrecognized servable version label: no)"),
        (("--model-version", "9"), "does not serve this version of the model (Servable not found"),
        (("--version-label", "late"), "does not serve this version of the model (Servable not found"),
        (("--model", "x", "--model-version", "1"), "does not serve this version of the model (Servable not found"),
    ],
)
def test_a_version_that_is_not_there_exits_with_code_3(served: Served, choice: tuple[str, ...], reason: str) -> None:
    served.label(stable=1, late=9)
    result = served.client.run(*choice, "--retry-timeout", "0")
    assert result.exit_code == 3
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_one_version_is_chosen_and_only_on_a_server(served: Served, tmp_path: Path) -> None:
    result = served.client.run("--model-version", "1", "--version-label", "stable")
    assert result.exit_code == 2
    assert "not both" in result.stderr
    command = [str(served.client.images), "--local-server", str(tmp_path / "m")]
    for option in ("--model-version", "--version-label"):
        result = CliRunner().invoke(main, [*command, option, "1"])
        assert result.exit_code == 2
        assert f"leave {option} out" in result.stderr
