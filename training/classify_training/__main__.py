"""The program `classify-train`, also `python -m classify_training`."""

import sys

from classify_training import interrupts


def run() -> None:
    """Run the command line; signals are handled before anything else is imported."""
    interrupts.install()
    try:
        from classify_training.cli.main import main
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(interrupts.EXIT_CODE)
    main(prog_name="classify-train")


if __name__ == "__main__":
    run()
