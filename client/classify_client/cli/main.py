"""classify-client: parse, run, report."""

import sys
from collections.abc import Mapping
from dataclasses import fields
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classify_client import __version__
from classify_client.cli.compare import compare_command
from classify_client.cli.options import input_options, mistake_options, output_options, pipeline_options, server_options
from classify_client.errors import ClassifyError, InputError
from classify_client.terminal.log_handler import notices
from classify_serving.contract.text import terminal_text

if TYPE_CHECKING:
    from classify_client.run import Outcome

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


class _Client(click.Command):
    """Classifies, unless the first word is another command; a folder of that name is `./compare`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args[:1] == ["compare"]:
            return compare_command.make_context(f"{info_name} compare", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


@click.command(cls=_Client, context_settings={"auto_envvar_prefix": "CLASSIFY", "show_default": True})
@input_options
@output_options
@server_options
@pipeline_options
@mistake_options
@click.version_option(__version__)
def main(
    labels: str, max_failures: int, fail_under: float | None, as_json: bool, dry_run: bool, **options: Any
) -> None:
    """Classify images in batches with a model server, and copy what it got wrong into a miss folder.

    INPUTS are folders, searched with all below them; image files; .zip and .tar archives; patterns in quotes such
    as 'images/**/*.jpg'; URLs such as s3://bucket/folder; and lists of such paths, @FILE or - for standard input.
    The nearest folder around an image that is named like one of the model's classes is taken for its true class.

    Results are predictions.csv, miss/, report.html, review.csv and summary.json in the output folder. Running again
    goes on where an earlier run stopped: what the same model has answered is not sent again.

    classify-client compare BEFORE AFTER compares the results of two runs.

    \b
    Exit codes: 0 all images answered, 1 some failed or --fail-under, 2 wrong usage,
    3 no server or no such model, 130 interrupted.
    """
    _check_embedded(options["embedded"])
    for stream in (sys.stdout, sys.stderr):
        # Names of files and classes may hold what the terminal's encoding has not.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if dry_run:
            _list(options)
            return
        from classify_client.inference.connection import Connection
        from classify_client.run import RunConfig, run

        connection = Connection(**{field.name: options.pop(field.name) for field in fields(Connection)})
        with notices():
            outcome = run(RunConfig(labels=labels == "folder", connection=connection, **options))
    except ClassifyError as error:
        click.echo(f"Error: {terminal_text(str(error))}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("Stopped. What was written is complete; run again to go on.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    _report(outcome, options["output"], as_json)
    sys.exit(_exit_code(outcome, max_failures, fail_under))


def _check_embedded(embedded: Path | None) -> None:
    """Refuse what is about other servers next to --embedded; variables of the environment may be for other runs."""
    ctx = click.get_current_context()
    for name in ("servers", "model", "tls", "ca", "cert", "key", "tls_name", "token_file"):
        if embedded and ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = "server" if name == "servers" else name.replace("_", "-")
            raise click.UsageError(f"--embedded serves a model of its own: leave --{option} out")


def _list(options: Mapping[str, Any]) -> None:
    from classify_client.inputs.selection import Selection
    from classify_client.inputs.sources import list_sources

    selection = Selection(**{name: options[name] for name in ("inputs", "include", "exclude", "limit", "shuffle")})
    count = size = 0
    for source in list_sources(selection, options["output"]):
        click.echo(terminal_text(source.name))
        count += 1
        size += int(source.stamp[0] or 0)
    click.echo(f"{count} images, {size / 1e6:.1f} MB; nothing was sent or written", err=True)


def _report(outcome: "Outcome", output: Path, as_json: bool) -> None:
    from classify_client.output_folder import predictions_path
    from classify_client.results.summary import summary_json, summary_lines

    if as_json:
        click.echo(summary_json(outcome.summary), nl=False)
    for name, value in () if as_json else summary_lines(outcome.summary, output):
        click.echo(click.style(f"{name:<13}", bold=True) + terminal_text(value))
    if outcome.summary["failed"]:
        failed = f"{outcome.summary['failed']} of {outcome.summary['images']} images failed"
        path = predictions_path(output, outcome.summary["arguments"]["format"])
        click.echo(f"{failed}: see the column error in {path}", err=True)
    if outcome.interrupted:
        click.echo("Interrupted. Results so far are complete; run again to go on.", err=True)


def _exit_code(outcome: "Outcome", max_failures: int, fail_under: float | None) -> int:
    if outcome.interrupted:
        return EXIT_INTERRUPTED
    if outcome.summary["failed"] > max_failures:
        return EXIT_FAILED
    accuracy = outcome.summary["accuracy"]
    if fail_under is None:
        return 0
    if accuracy is None:
        click.echo(
            "Error: --fail-under needs images in folders named like the model's classes: there are none", err=True
        )
        return InputError.exit_code
    return EXIT_FAILED if accuracy < fail_under else 0
