"""What is a URL; apart from what opens them, because `--help` must not wait for that."""

import re


def is_url(text: str) -> bool:
    """Whether an input or output is a URL, such as `s3://bucket/folder`."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None
