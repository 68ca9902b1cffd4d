"""The number format is the fastest that the processor supports."""

from classify_training.model.precision import choose_policy


def test_precision_is_chosen_by_what_the_processor_says() -> None:
    assert choose_policy("float32") == "float32"
    assert choose_policy("bfloat16") == "mixed_bfloat16"
    assert choose_policy("auto") in ("float32", "mixed_bfloat16", "mixed_float16")
