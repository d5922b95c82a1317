"""Run ``python -m eventsvc`` or ``eventsvc``."""

import sys


def main() -> None:
    """Load the command line and run it. Ctrl-C while it is loaded ends the process without a traceback."""
    try:
        from eventsvc import cli
    except KeyboardInterrupt:
        sys.exit(130)  # as shells do (128 + SIGINT)
    cli.main()


if __name__ == "__main__":
    main()
