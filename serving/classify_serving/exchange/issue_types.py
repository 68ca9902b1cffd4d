"""Issue types: what may be wrong with an image, as the column `issue_type` of a review says it."""

from collections.abc import Mapping
from typing import Final

WRONG_LABEL: Final = "wrong-label"
DUPLICATE: Final = "duplicate"
OUTLIER: Final = "outlier"
CONFUSION: Final = "confusion"
UNREADABLE: Final = "unreadable"
CONFIRMED: Final = "confirmed"
ISSUE_TYPES: Final[Mapping[str, str]] = {
    WRONG_LABEL: "likely wrong label",
    DUPLICATE: "same picture under another label",
    OUTLIER: "outlier: unlike the other images",
    CONFUSION: "confusion",
    UNREADABLE: "cannot be read",
    CONFIRMED: "label confirmed",
}
"""Issue type -> its name on a page; docs/contract.md explains them."""

_OLD_NAMES: Final[Mapping[str, str]] = {"unlike": OUTLIER}
"""Names in reviews of release 0.1."""


def current_issue_type(name: str) -> str:
    """The current name of an issue type that may have its name of release 0.1."""
    return _OLD_NAMES.get(name, name)
