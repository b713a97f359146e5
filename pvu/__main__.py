"""``python -m pvu``."""

from pvu.cli import main

# Decoding workers are spawned and import this module under another name: they must not start the command again.
if __name__ == "__main__":
    raise SystemExit(main())
