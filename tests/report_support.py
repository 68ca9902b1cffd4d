"""Results of runs without a run, to write reports from."""

from collections import Counter
from pathlib import Path

from support import make_metadata

from classify_client.inference.pipeline import Times
from classify_client.results.reader import Item, Results
from classify_client.results.rows import Row
from classify_client.results.summary import RunCounts, summarise


def make_results(items: list[Item], folder: Path, labels: tuple[str, ...]) -> Results:
    """The results of a run with these items, of a model with these classes."""
    counts = RunCounts(answered=len(items), pairs=Counter((item.row.true_class, item.row.predicted) for item in items))
    arguments = {"inputs": ["images"], "labels": True, "format": "csv"}
    summary = summarise(counts, make_metadata(class_names=labels), Times(), 1.0, arguments, True)
    results = Results(folder, summary)
    for item in items:
        results.add(item)
    return results


def make_item(path: str, true: str, predicted: str, probability: float, given_probability: float = 0.0) -> Item:
    """A labelled image; the probabilities are those of the predicted and of the true class."""
    top = ((predicted, probability),) if true == predicted else ((predicted, probability), (true, given_probability))
    return Item(Row(path=path, true_label=true, true_class=true, top=top), Path(path))
