"""`python -m classify_training` is `classify-train`."""

from classify_training.cli.main import main

main(prog_name="classify-train")
