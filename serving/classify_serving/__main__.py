"""`python -m classify_serving` runs `classify-serve`."""

from classify_serving.cli import main

main(prog_name="classify-serve")
