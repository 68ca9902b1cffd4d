"""The summary on the screen and the report, when classes are called like numbers or like words of a sentence."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from client_support import Start
from numpy.typing import NDArray
from support import BrightnessModel, make_metadata, write_picture

from classify_serving.contract import model as contract

NAMES = {b"black": b"3", b"grey": b"5", b"white": b"others"}


class RenamedModel(BrightnessModel):
    """A BrightnessModel whose classes have the names in NAMES."""

    def predict(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        answer = super().predict(signature, inputs)
        if labels := answer.get(contract.TOP_LABELS, np.array([])).tolist():
            answer[contract.TOP_LABELS] = np.array([[NAMES[name] for name in row] for row in labels], np.object_)
        return answer


def test_numbers_as_class_names_cannot_be_taken_for_counts(start: Start) -> None:
    client = start(RenamedModel(make_metadata(class_names=("3", "5", "others"))))
    for name, brightness in {"3/1": 128, "3/2": 129, "3/3": 1, "5/1": 128, "others/1": 1, "others/2": 250}.items():
        write_picture(client.images / f"{name}.png", brightness)
    lines = {line[:13].strip(): line[13:] for line in client.run().stdout.splitlines()}
    assert lines["Confused"] == "3 → 5: 2 images, others → 3: 1 image"
    assert lines["Worst recall"] == "3: 33.3% of 3 images, others: 50.0% of 2 images"
    page = (client.output / "report.html").read_text()
    assert 'title="3 → 5: 2 images"' in page
    assert "<small>2 images <span>(67% of class 3)</span></small>" in page
