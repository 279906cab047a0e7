"""`python -m processor`: one member of the consumer group, configured by the environment alone; or a COMMAND.

`filter` needs no server at all.
"""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    """Returns the exit status: 2 when something is set up wrongly."""
    # Imported where they are needed: a filter in a pipe should start at once.
    match arguments:
        case ["filter", *options]:
            from processor.filter import main as filter_main

            return filter_main(options)
        case ["replay", *options]:
            from processor.replay.command import main as replay_main

            return replay_main(options)
        case []:
            from pipeline.service import run
            from processor.pipeline import serve
            from processor.settings import ProcessorSettings

            return run("processor", ProcessorSettings, serve)
        case ["-h" | "--help"]:
            print("usage: python -m processor [filter | replay] [--help]\n\nWithout a command: the service.")  # noqa: T201
            return 0
        case [other, *_]:
            print(f"processor: no such command: {other} (there are filter and replay)", file=sys.stderr)  # noqa: T201
            return 2
    raise AssertionError(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
