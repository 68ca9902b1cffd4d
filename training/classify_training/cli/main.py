"""classify-train: sample, inspect, preview, audit, train, quantize, review, apply, map."""

import time
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from classify_serving.contract.versions import newest_version
from classify_training import __version__, interrupts
from classify_training.cli.apply import apply
from classify_training.cli.audit import audit
from classify_training.cli.group import Group
from classify_training.cli.log_handler import log_to_stderr
from classify_training.cli.map import map_command
from classify_training.cli.options.aliases import option
from classify_training.cli.options.configuration import (
    augment_config,
    augment_options,
    data_config,
    data_options,
    fit_config,
    fit_options,
)
from classify_training.cli.options.defaults import use_config, use_recipe
from classify_training.cli.options.types import FOLDER, new_file, writable_folder
from classify_training.cli.quantize import quantize, run_quantize
from classify_training.cli.review import review
from classify_training.config import RECIPES, DataConfig, TrainConfig

if TYPE_CHECKING:
    from classify_training.data.plan import Plan
    from classify_training.train import Trained


@click.group(cls=Group, context_settings={"auto_envvar_prefix": "CLASSIFY_TRAIN", "show_default": True})
@click.version_option(__version__)
def main() -> None:
    """Fine-tune VGG16 on a folder of labelled images and export a SavedModel.

    Every option is also an environment variable: CLASSIFY_TRAIN_IMAGE_SIZE for the command train,
    CLASSIFY_TRAIN_INSPECT_IMAGE_SIZE for inspect, and so on.

    \b
    Exit codes: 0 done, 1 training or export failed, 2 wrong usage or unusable dataset,
    130 interrupted.
    """


@main.command()
@click.argument("dataset", type=FOLDER, default=Path("dataset"))
@option("--images", type=FOLDER, default=Path("images"), help="Folder for the held-out images.")
@option(
    "--needed-for",
    type=FOLDER,
    metavar="MODEL",
    help="Write only if DATASET is empty and this model has no version yet; keep what is in --images.",
)
def sample(dataset: Path, images: Path, needed_for: Path | None) -> None:
    """Write a sample dataset of handwritten digits to DATASET (default: dataset).

    A fifth of the images is held out and written to --images, to be classified after the training. The 1,797 scans
    come with scikit-learn, so nothing is downloaded. Three of the ten classes are small on purpose. DATASET also gets
    a config.json with suitable training options.
    """
    from classify_training.data.sample import holds_something, write_sample

    if needed_for and (holds_something(dataset) or newest_version(needed_for)):
        click.echo(f"no sample written: {dataset if holds_something(dataset) else needed_for} exists already")
        return
    keep_images = needed_for is not None and holds_something(images)
    train, held_out = write_sample(dataset, None if keep_images else images)
    click.echo(f"{train} labelled images in {dataset}" + (f", {held_out} held out in {images}" if held_out else ""))
    click.echo(f"Train on it:  classify-train train {quote(str(dataset))}")


@main.command()
@data_options
def inspect(quiet: bool, **options: Any) -> None:
    """Show what a training on DATASET would use: classes, splits, corrupt and duplicate files.

    DATASET contains one folder of images for each label, or folders train, val and test with such folders. Files that
    would be left out are listed on stderr. Nothing is changed.
    """
    data = data_config(options)
    _make_and_print_plan(data, quiet)
    click.echo(f"Train:  classify-train train {quote(str(data.dataset))} --output models/NAME")


@main.command()
@data_options
@augment_options
@option("--output", "-o", type=FOLDER, default=Path("preview.png"), callback=new_file, help="PNG file to write.")
@option("--images", type=click.IntRange(1, 20), default=8, help="Number of images.")
@option("--repeats", type=click.IntRange(1, 10), default=4, help="Number of augmentations of each image.")
def preview(output: Path, images: int, repeats: int, quiet: bool, **options: Any) -> None:
    """Draw some images of DATASET and random augmentations of them.

    Writes one PNG file, preview.png by default. Use it to choose augmentation options.
    """
    data, augment = data_config(options), augment_config(options)
    log_to_stderr(quiet)
    from classify_training.data.plan import make_plan

    plan = make_plan(data, quiet)
    _import_tensorflow()
    from classify_training.evaluation.preview import write_preview

    write_preview(plan, augment, images, repeats, data.seed, output)
    click.echo(f"Drew {output}")


@main.command(context_settings={"auto_envvar_prefix": "CLASSIFY_TRAIN"})
@data_options
@augment_options
@fit_options
@option(
    "--output",
    "-o",
    type=FOLDER,
    default=Path("models/classifier"),
    callback=writable_folder,
    help="Folder of the model; the folder's name is the model's name.",
)
@option(
    "--runs",
    type=FOLDER,
    default=Path("runs"),
    callback=writable_folder,
    help="Folder for configuration, metrics and figures of each run.",
)
@option("--resume/--no-resume", default=True, help="Resume a killed run of the same configuration and dataset.")
@option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    default="default",
    is_eager=True,
    expose_value=False,
    callback=use_recipe,
    help="Set of default options; article trains all layers at once, with Adam's default learning rate.",
)
@option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=use_config,
    help="Take options, and DATASET, from the config.json of a run.",
)
@option(
    "--serve-precision",
    type=click.Choice(["float32", "int8"]),
    default="float32",
    help="int8: also publish a version with 8-bit integers, as classify-train quantize does, after any --time-budget.",
)
@option("--if-none", is_flag=True, help="Train only if OUTPUT has no version yet.")
@option("--dry-run", is_flag=True, help="Show what would be trained on, and stop.")
def train(
    output: Path,
    runs: Path,
    resume: bool,
    serve_precision: str,
    if_none: bool,
    dry_run: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a model on DATASET and export it as the next version of OUTPUT.

    The version is a folder OUTPUT/1, OUTPUT/2, ... with a SavedModel, which TensorFlow Serving and classify-serve load
    as soon as it appears. RUNS gets a folder with the configuration, curves, metrics, confusion matrix, the
    misclassified test images, and a page on which to decide about doubtful images. The same command resumes a training
    that was killed.
    """
    started = time.monotonic()
    if if_none and (version := newest_version(output)):
        click.echo(f"nothing to train: {output} has version {version}")
        return
    config = TrainConfig(
        data=data_config(options),
        augment=augment_config(options),
        fit=fit_config(options),
        output=output,
        runs=runs,
        resume=resume,
        quiet=quiet,
    )
    plan = _make_and_print_plan(config.data, quiet)
    if dry_run:
        return
    _import_tensorflow()
    from classify_training.runs import complete_published_run
    from classify_training.train import train as fit_and_export

    if published := complete_published_run(config, plan.fingerprint):
        click.echo(f"already trained: {published} was exported by a run that was killed afterwards")
    else:
        with interrupts.deferred():
            fit_and_export(
                plan, config, on_published=partial(_report, is_last=serve_precision == "float32"), started=started
            )
    if serve_precision == "int8":
        try:
            run_quantize(output, None, quiet)
        except interrupts.Interrupted as error:
            raise interrupts.Interrupted(
                "the model is published in float32, but not with 8-bit integers: classify-train quantize"
                f" {quote(str(output))} does that"
            ) from error


main.add_command(audit)
main.add_command(quantize)
main.add_command(review)
main.add_command(apply)
main.add_command(map_command)


def _report(trained: "Trained", is_last: bool) -> None:
    """Say what was exported; if that was the last thing to do, a signal changes nothing from here on."""
    if is_last:
        interrupts.ignore()
    from classify_training.evaluation.remarks import is_wide
    from classify_training.run_page.write import RUN_PAGE

    report = trained.evaluation.report()
    if report["images"]:
        low, high = report["accuracy_interval"]
        wide = ", too wide to compare trainings" if is_wide(low, high) else ""
        click.echo(
            f"On {report['images']} test images: accuracy {report['accuracy']:.1%}"
            f" (95% interval {low:.0%} to {high:.0%}{wide})  macro F1 {report['macro_f1']:.1%}"
        )
    else:
        click.echo("No test images to evaluate it on.")
    for remark in trained.remarks:
        if not remark.is_detail:
            click.echo(f"Warning: {remark.text}" if remark.is_warning else remark.text, err=remark.is_warning)
    click.echo(f"The page of this training: {trained.run / RUN_PAGE}")
    click.echo(f"Decide about doubtful images:  classify-train review {quote(str(trained.run))}")
    click.echo(f"Exported {trained.metadata.model_name} version {trained.metadata.model_version} to {trained.path}")
    click.echo(f"Serve it:  classify-serve {quote(str(trained.path.parent))}")


def _import_tensorflow() -> None:
    from classify_serving.tensorflow_import import import_tensorflow

    import_tensorflow()
    interrupts.check()


def _make_and_print_plan(data: DataConfig, quiet: bool) -> "Plan":
    """Read the dataset, and print what would be trained on and what is left out, before anything is trained."""
    log_to_stderr(quiet)
    from classify_training.cli.plan_table import print_plan
    from classify_training.data.plan import make_plan

    plan = make_plan(data, quiet)
    print_plan(plan, data)
    return plan
