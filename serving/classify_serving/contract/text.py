"""Names and messages from anywhere, as text that can be written and shown; imports nothing heavy."""

import re


def printable(text: str) -> str:
    """Text that can be written as UTF-8: bytes of a file name that are none appear as `\\xNN`."""
    # Other halves of characters than those that stand for bytes come from no file system, but from anywhere else.
    whole = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)
    return whole.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def shown(text: str) -> str:
    """Text for a terminal, without what it would obey: names and messages may come from anywhere."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in printable(text)
    )
