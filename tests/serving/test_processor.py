"""Whether the processor has instructions for bfloat16 is read from Linux's list."""

from pathlib import Path

import pytest

from classify_serving.processor import has_bfloat16, processor_flags


def test_the_flags_of_the_processor_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ONEDNN_MAX_CPU_ISA", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "cpuinfo"
    path.write_text("model name : x\nflags\t\t: fpu avx512_bf16 sse\n")
    assert processor_flags(path) == {"fpu", "avx512_bf16", "sse"}
    assert has_bfloat16(path)
    with monkeypatch.context() as limited:
        limited.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
        assert not has_bfloat16(path)
    with monkeypatch.context() as limited:
        limited.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
        assert not has_bfloat16(path)
    path.write_text("model name : x\nflags\t\t: fpu avx512f sse\n")
    assert not has_bfloat16(path)
    assert processor_flags(tmp_path / "absent") == set()
