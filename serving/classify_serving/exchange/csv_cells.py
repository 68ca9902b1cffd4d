"""Cells of CSV files that no spreadsheet takes for a formula."""

import re
from typing import Final

# A spreadsheet runs a cell that begins like this, and shows what begins with ' as it is.
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n]")


def escape_formula(cell: str) -> str:
    """The cell as it is written: one that would be a formula gets a ' in front."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unescape_formula(cell: str) -> str:
    """The opposite of `escape_formula`: a cell that begins with ' and would be a formula without was given it."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
