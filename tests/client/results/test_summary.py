"""The content of summary.json."""

from support import make_metadata

from classify_client.inference.pipeline import Times
from classify_client.results.rows import Row
from classify_client.results.summary import RunCounts, summarise


def test_the_precisions_of_all_versions_that_answered_are_named() -> None:
    counts = RunCounts()
    assert summarise(counts, make_metadata(), Times(), 1.0, {}, True)["model"]["precision"] == "float32"
    for version, precision in ((1, "int8"), (2, "float32"), (1, "int8")):
        counts.add(Row(path="1.png", top=(("black", 1.0),), model_version=version), precision)
    model = summarise(counts, make_metadata(), Times(), 1.0, {}, True)["model"]
    assert (model["versions"], model["precision"]) == (["1", "2"], "float32, int8")
