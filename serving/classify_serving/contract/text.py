"""Make names and messages from any source safe to write to a file and to print on a terminal."""

import re


def printable(text: str) -> str:
    r"""Make text encodable as UTF-8: bytes of a file name that are not valid UTF-8 become `\xNN`."""
    if text.isascii():
        return text
    # Python represents such bytes by lone surrogates in U+DC80-U+DCFF; any other lone surrogate is replaced.
    whole = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)
    return whole.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def terminal_text(text: str) -> str:
    """Replace control characters, which could send commands to the terminal; the names may come from any source."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in printable(text)
    )


def error_reason(error: BaseException) -> str:
    """The reason of an error in a few words on one line, to use inside a sentence: `no space left on device`."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__
