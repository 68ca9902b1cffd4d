"""classify-train audit: find wrong labels in a dataset before anything is trained on it."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from classify_serving.contract.text import terminal_text
from classify_serving.exchange.review import REVIEW
from classify_training import interrupts
from classify_training.cli.log_handler import log_to_stderr
from classify_training.cli.options.aliases import option
from classify_training.cli.options.configuration import audit_options
from classify_training.cli.options.types import FOLDER, writable_folder
from classify_training.config import AuditConfig, DataConfig

if TYPE_CHECKING:
    from classify_training.audit.audit import Audit


@click.command()
@audit_options
@option(
    "--output",
    "-o",
    type=FOLDER,
    default=Path("audited"),
    callback=writable_folder,
    help="Folder for review.csv and report.html; decisions that it has are kept.",
)
def audit(dataset: Path, output: Path, quiet: bool, **options: Any) -> None:
    """Find images of DATASET whose label is probably wrong, before any training.

    Models that take seconds to fit judge each image without having seen it, on the features of the network that
    training starts from. Also found: the same or nearly the same picture under two labels, images unlike all others,
    and files that cannot be read. Writes review.csv and report.html, the page to decide on. Nothing in DATASET is
    changed.
    """
    if output.resolve().is_relative_to(dataset.resolve()):
        raise click.UsageError(f"{output} is inside of the dataset, where it would be taken for a label: give --output")
    from classify_training.audit.output_folder import check_output_folder

    check_output_folder(output, dataset)
    log_to_stderr(quiet)
    from classify_serving.tensorflow_import import import_tensorflow

    import_tensorflow()
    from classify_training.audit.audit import audit as run_audit
    from classify_training.audit.write import write_audit

    own = {name: options.pop(name) for name in ("weights", "flip", "precision")}
    config = AuditConfig(data=DataConfig(dataset=dataset, **options), quiet=quiet, **own)
    with interrupts.deferred():
        found = run_audit(config)
        page = write_audit(found, output, quiet)
    _report(found)
    click.echo(f"Decide while looking:  classify-train review {quote(str(output))}    (or open {page})")
    click.echo(
        f"Then change the dataset:  classify-train apply {quote(str(output / REVIEW))} --dataset {quote(str(dataset))}"
    )


def _report(found: "Audit") -> None:
    from classify_serving.exchange.issue_types import ISSUE_TYPES
    from classify_training.audit.write import issue_counts

    judged = found.judged
    click.echo(f"Judged {len(judged.dataset.examples):,} images with {len(judged.labels)} labels.")
    for issue, count in issue_counts(finding.issue for finding in found.findings).items():
        click.echo(f"{count:7,}  {ISSUE_TYPES[issue]}")
    if judged.weakness:
        click.echo(f"Warning: no label is called likely wrong, because {terminal_text(judged.weakness)}.", err=True)
    click.echo(f"As a test, {found.test.planted} labels were made wrong: {found.test.found} of them were found.")
