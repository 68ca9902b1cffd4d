"""The train manifest of a model: all images of the dataset, by their content."""

from classify_serving.exchange.train_manifest import NOT_USED, train_manifest_csv
from classify_training.data.plan import Plan


def train_manifest(plan: Plan) -> bytes:
    """Make the content of the manifest file; an image with several labels has a row for each of them."""
    used = {(each.digest, each.file.label, str(each.file.split)) for each in plan.dataset.examples}
    conflicts = {(each.digest, each.file.label, NOT_USED) for group in plan.dataset.conflicts for each in group}
    return train_manifest_csv(sorted(used | conflicts))
