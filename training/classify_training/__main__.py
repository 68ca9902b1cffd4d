"""`python -m classify_training` is `classify-train`."""

from classify_training.cli import main

main(prog_name="classify-train")
