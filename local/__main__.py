"""`python -m local up`, `traffic`, `demo`, `provision`: the pipeline on one machine, without a cloud account."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from pipeline import logs


def main(arguments: list[str]) -> int:
    """The exit status. Each command imports its own modules, because those of the others take a second."""
    for number in (signal.SIGTERM, signal.SIGINT):  # until a command has handlers of its own: nothing runs yet
        signal.signal(number, lambda _number, _frame: sys.exit(0))
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="run the embedded stack in the foreground")
    up.add_argument(
        "--dir", type=Path, required=True, help="keeps the stack's data; DIR/env is there while it is ready"
    )
    up.add_argument("--partitions", type=int, default=12, help="of the topic, when it is made (default 12)")
    traffic = commands.add_parser("traffic", help="insert realistic events into DATABASE_URL")
    if arguments[:1] == ["traffic"]:
        from local.traffic import add_arguments

        add_arguments(traffic)
    demo = commands.add_parser("demo", help="everything on generated traffic, with a live view")
    if arguments[:1] == ["demo"]:
        from local.demo import add_arguments as add_demo_arguments

        add_demo_arguments(demo)
    remote = commands.add_parser("provision", help="topic, buckets and sample clients, on servers in containers")
    remote.add_argument("--dir", type=Path, required=True, help="remembers the sample clients' keys")
    options = parser.parse_args(arguments)
    logs.configure("local", "WARNING")
    match options.command:
        case "traffic":
            from local.traffic import main as run_traffic

            return run_traffic(options)
        case "demo":
            from local.demo import main as run_demo

            return run_demo(options)
        case "provision":
            from local.remote import run as run_provision

            return run_provision(options.dir, lambda line: print(line, flush=True))
        case _:
            from local.up import up as run_up

            return run_up(options.dir, partitions=options.partitions)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
