"""Every option explains itself, and the README names no command, target or option that is not there."""

import re
import subprocess
from pathlib import Path

import click
import pytest

from classify_client.cli.compare import compare_command
from classify_client.cli.main import main as client
from classify_client.cli.review import review_command
from classify_serving.cli import main as serve
from classify_training.cli.main import main as train

ROOT = Path(__file__).parents[1]
COMMANDS: dict[str, click.Command] = {
    "classify-client": client,
    "classify-client compare": compare_command,
    "classify-client review": review_command,
    "classify-serve": serve,
    **{f"classify-train {name}": command for name, command in train.commands.items()},
}

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/client.md",
    "docs/contract.md",
    "docs/glossary.md",
    "docs/mistakes.md",
    "docs/robustness.md",
    "docs/scale.md",
    "docs/serving.md",
    "docs/training.md",
]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for option in command.params:
        assert not isinstance(option, click.Option) or option.help, option.name


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_only_what_exists(page: str) -> None:
    path = ROOT / page
    readme = re.sub(
        r"docker compose( (-\S+( serving=[23]| gpu| cluster| ray-worker=3)?|up|run|training|client))*"
        r"|SERVING_ARGS=.*|kubectl .*|ray start .*|aws .*",
        "",
        path.read_text(),
    )
    options = [option for command in COMMANDS.values() for option in command.params]
    known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", readme):
        # The last two are those of a benchmark.
        assert option in known | {"--help", "--constraint", "--held-out", "--turns"}, option
    targets = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for target in re.findall(r"`?make ([a-z-]+)", readme):
        assert target == "help" or re.search(rf"^{target}\b", targets, re.MULTILINE), target
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (path.parent / link).exists(), link
    for test in re.findall(r"`(tests/[^`]+)`", readme):
        assert (ROOT / test).exists(), test


def test_all_versions_are_pinned() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", line) for line in lines)
