"""Tests whose tool is not on this machine are skipped for a developer, and fail where all tests have to run."""

import os
from typing import Final, NoReturn

import pytest

REQUIRE_ALL: Final = "REQUIRE_ALL_TESTS"
"""Environment variable: `1` turns a missing browser, openssl or Docker into failures."""


def skip_or_fail(reason: str) -> NoReturn:
    """Skip this test for want of a tool; with REQUIRE_ALL_TESTS=1, fail it."""
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(f"{reason}, and {REQUIRE_ALL}=1 says that no test may be skipped for it", pytrace=False)
    pytest.skip(reason)
