"""The number format is the fastest that the processor supports."""

from pathlib import Path

from classify_training.model.precision import choose_policy, processor_flags


def test_precision_is_chosen_by_what_the_processor_says(tmp_path: Path) -> None:
    assert choose_policy("float32") == "float32"
    assert choose_policy("bfloat16") == "mixed_bfloat16"
    assert choose_policy("auto") in ("float32", "mixed_bfloat16", "mixed_float16")
    (tmp_path / "cpuinfo").write_text("model name : x\nflags\t\t: fpu avx512_bf16 sse\n")
    assert "avx512_bf16" in processor_flags(tmp_path / "cpuinfo")
    assert processor_flags(tmp_path / "absent") == set()
