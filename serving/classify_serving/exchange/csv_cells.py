"""Escape CSV cells that a spreadsheet would execute as a formula (CSV injection)."""

import re
from typing import Final

# Spreadsheets execute a cell that begins like this; a cell that begins with ' is shown as text.
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n]")


def escape_formula(cell: str) -> str:
    """The cell as written to the file: one that a spreadsheet would execute gets a leading '."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unescape_formula(cell: str) -> str:
    """The original cell: removes the leading ' that `escape_formula` added."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
