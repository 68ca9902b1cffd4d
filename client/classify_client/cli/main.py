"""classify-client: parse, run, report."""

import sys
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from classify_client import __version__
from classify_client.cli.compare import compare_command
from classify_client.cli.options import (
    analysis_options,
    cluster_options,
    input_options,
    output_options,
    pipeline_options,
    server_options,
)
from classify_client.cli.review import review_command
from classify_client.errors import ClassifyError, InputError, OutputError
from classify_client.terminal.log_handler import log_to_stderr
from classify_serving.contract.text import error_reason, terminal_text
from classify_serving.termination import sigterm_interrupts

if TYPE_CHECKING:
    from upath import UPath

    from classify_client.config import RunConfig
    from classify_client.inputs.selection import Selection
    from classify_client.run import Outcome

EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130

_COMMANDS: Final[Mapping[str, click.Command]] = {"compare": compare_command, "review": review_command}

T = TypeVar("T")


class _Client(click.Command):
    """Classifies, unless the first word is another command; to classify a folder of that name, write `./compare`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args and (command := _COMMANDS.get(args[0])):
            return command.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


@click.command(cls=_Client, context_settings={"auto_envvar_prefix": "CLASSIFY", "show_default": True})
@input_options
@output_options
@server_options
@pipeline_options
@cluster_options
@analysis_options
@click.version_option(__version__)
def main(max_failures: int, fail_under: float | None, as_json: bool, dry_run: bool, **options: Any) -> None:
    """Classify images in batches with a model server, and copy wrong predictions into a miss folder.

    INPUTS are folders (searched with all their subfolders), image files, .zip and .tar archives, quoted patterns such
    as 'images/**/*.jpg', URLs such as s3://bucket/folder, and lists of such paths: @FILE, or - for standard input.
    The nearest folder around an image that has the name of a class of the model is its true label.

    The output folder gets predictions.csv, miss/, report.html, review.csv and summary.json. Running the same command
    again resumes: images that the same model has answered are not sent again.

    classify-client compare BEFORE AFTER compares the results of two runs; classify-client review OUTPUT opens a run's
    report to decide about its misses.

    \b
    Exit codes: 0 all images answered, 1 some failed or --fail-under, 2 wrong usage,
    3 no server, no such model or no Ray cluster, 130 interrupted.
    """
    _check_local_server(options["local_server"])
    if options["model_version"] is not None and options["version_label"] is not None:
        raise click.UsageError("give --model-version or --version-label, not both")
    if isinstance(options["output"], str) and options["ray"] is None:
        raise click.UsageError("an output folder in an object store needs --ray: give a local folder instead")
    for stream in (sys.stdout, sys.stderr):
        # Names of files and classes may contain characters that the terminal's encoding does not have.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if dry_run:
            _list_images(_selection(options), options["output"])
            return
        with sigterm_interrupts(), log_to_stderr():
            outcome = _run(_config(options))
    except ClassifyError as error:
        click.echo(f"Error: {terminal_text(str(error))}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("Stopped. Results so far are kept; run again to resume.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    try:
        _report(outcome, options["output"], as_json)
    except BrokenPipeError:
        raise
    except OSError as error:
        click.echo(f"Error: the summary cannot be printed ({error_reason(error)}); it is in summary.json", err=True)
        sys.exit(OutputError.exit_code)
    sys.exit(_exit_code(outcome, max_failures, fail_under))


def _is_given(name: str) -> bool:
    """Whether an option was given, and is not only the default."""
    return click.get_current_context().get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def _check_local_server(local_server: Path | None) -> None:
    """Refuse options for other servers next to --local-server; environment variables may be meant for other runs."""
    ctx = click.get_current_context()
    for name in (
        "servers",
        "model",
        "model_version",
        "version_label",
        "tls",
        "ca",
        "cert",
        "key",
        "tls_name",
        "token_file",
    ):
        if local_server and ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = "server" if name == "servers" else name.replace("_", "-")
            raise click.UsageError(f"--local-server starts a server of its own: leave --{option} out")


def _config(options: Mapping[str, Any]) -> "RunConfig":
    from classify_client.config import (
        AnalysisOptions,
        ClusterOptions,
        OutputOptions,
        PipelineOptions,
        RunConfig,
        ServerOptions,
    )
    from classify_client.inference.connection import Connection

    values = {**options, "labels": options["labels"] == "folder"}
    values["connection"] = _group(Connection, values)
    if isinstance(options["output"], str):
        values |= {"output": Path(), "output_url": options["output"]}
    else:
        values["output_url"] = None
    values["cluster_threads"] = values["threads"] if _is_given("threads") else None
    return RunConfig(
        selection=_selection(options),
        output=_group(OutputOptions, values),
        server=_group(ServerOptions, values),
        pipeline=_group(PipelineOptions, values),
        analysis=_group(AnalysisOptions, values),
        cluster=_group(ClusterOptions, values),
        quiet=options["quiet"],
    )


def _run(config: "RunConfig") -> "Outcome":
    if config.cluster.ray is not None:
        from classify_client.cluster.machines.connection import check_ray

        check_ray()
        from classify_client.cluster.run import run_on_cluster

        return run_on_cluster(config)
    from classify_client.run import run

    return run(config)


def _selection(options: Mapping[str, Any]) -> "Selection":
    from classify_client.inputs.selection import Selection

    return _group(Selection, options)


def _group(record: type[T], values: Mapping[str, Any]) -> T:
    """A record of options, whose fields have the names of the options."""
    return record(**{name: values[name] for name in record.__dataclass_fields__})  # type: ignore[attr-defined]


def _list_images(selection: "Selection", output: Path | str) -> None:
    from classify_client.inputs.sources import list_sources

    count = size = 0
    for source in list_sources(selection, output):
        click.echo(terminal_text(source.name))
        count += 1
        size += source.stamp.size or 0
    click.echo(f"{count} images, {size / 1e6:.1f} MB; nothing was sent or written", err=True)


def _report(outcome: "Outcome", output: Path | str, as_json: bool) -> None:
    from classify_client.cli.summary_lines import summary_lines
    from classify_client.output_folder import predictions_name
    from classify_client.results.summary import summary_json

    summary = outcome.summary
    if as_json:
        click.echo(summary_json(summary), nl=False)
    folder = output if isinstance(output, Path) else _url_location(output)
    for name, value in () if as_json else summary_lines(summary, folder, outcome.analysis_seconds):
        click.echo(click.style(f"{name:<13}", bold=True) + terminal_text(value))
    if summary["failed"]:
        path = folder / predictions_name(summary["arguments"]["format"])
        failed = f"{summary['failed']} of {summary['images']} images failed"
        click.echo(f"{failed}: see the column error in {path}", err=True)
    if outcome.interrupted:
        click.echo("Interrupted. Results so far are kept; run again to resume.", err=True)


def _url_location(url: str) -> "UPath":
    from classify_client.cluster.storage.location import url_location

    return url_location(url)


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
            "Error: --fail-under needs images in folders with the names of the model's classes: there are none",
            err=True,
        )
        return InputError.exit_code
    if accuracy < fail_under:
        click.echo(f"Error: the accuracy {accuracy:.4f} is below --fail-under {fail_under:g}", err=True)
        return EXIT_FAILED
    return 0
