"""`python -m local up`, `traffic` and `demo`: the pipeline on one machine, without Docker or a cloud account."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline import logs


def main(arguments: list[str]) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="run the embedded stack in the foreground")
    up.add_argument(
        "--dir", type=Path, required=True, help="where it keeps its data; DIR/env is there when it is ready"
    )
    up.add_argument("--partitions", type=int, default=12, help="of the topic, when it is made")
    options = parser.parse_args(arguments)
    logs.configure("local", "WARNING")

    from local.up import up as run_up

    return run_up(options.dir, partitions=options.partitions)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
