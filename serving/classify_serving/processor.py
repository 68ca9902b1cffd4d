"""What this machine's processor can do."""

from pathlib import Path
from typing import Final

_BFLOAT16: Final = {"avx512_bf16", "amx_bf16"}


def has_bfloat16(path: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bfloat16 numbers; others compute with them slower than with float32, or not."""
    return not _BFLOAT16.isdisjoint(processor_flags(path))


def processor_flags(path: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Features of the CPU as Linux lists them, such as `avx512_bf16`; empty if there is no such list."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.partition(":")[2].split()}
