"""What this machine's processor can do."""

import os
from pathlib import Path
from typing import Final

_BFLOAT16: Final = {"avx512_bf16", "amx_bf16"}
_ISAS_WITHOUT: Final = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
"""Values of ONEDNN_MAX_CPU_ISA that turn the instructions off (oneDNN, "CPU Dispatcher Control")."""


def has_bfloat16(path: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bfloat16 numbers; others compute with them slower than with float32, or not.

    The environment variables ONEDNN_MAX_CPU_ISA and TF_ENABLE_ONEDNN_OPTS can turn it off.
    """
    is_off = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "").lower() in {"0", "false"}
    is_limited = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _ISAS_WITHOUT
    return not (is_off or is_limited or _BFLOAT16.isdisjoint(processor_flags(path)))


def processor_flags(path: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Features of the CPU as Linux lists them, such as `avx512_bf16`; empty if there is no such list."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.partition(":")[2].split()}
