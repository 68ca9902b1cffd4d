"""Names and messages from anywhere as text that can be written to files and shown on a terminal."""

import re


def printable(text: str) -> str:
    r"""Text that can be written as UTF-8: bytes of a file name that are not UTF-8 appear as `\xNN`."""
    # Only lone surrogates that stand for bytes come from a file system; others can come from anywhere else.
    whole = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)
    return whole.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def terminal_text(text: str) -> str:
    """Text without control characters, which a terminal would obey: names and messages can come from anywhere."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in printable(text)
    )


def error_reason(error: BaseException) -> str:
    """Why something failed, in a few words on one line, to be put into a sentence: `no space left on device`."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__
