"""`python -m bench PART ...`: measures a part and prints its results as JSON. Figures are never part of a test."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys

from bench import cleaner, privacy, processor, streamer, syncer
from streamer.rows import COMPILED


def main() -> int:
    """Run one part; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    streamer.add_arguments(parts.add_parser("streamer", help=streamer.__doc__))
    processor.add_arguments(parts.add_parser("processor", help=processor.__doc__))
    privacy.add_arguments(parts.add_parser("privacy", help=privacy.__doc__))
    syncer.add_arguments(parts.add_parser("syncer", help=syncer.__doc__))
    cleaner.add_arguments(parts.add_parser("cleaner", help=cleaner.__doc__))
    options = parser.parse_args()
    if options.part == "privacy":
        results = privacy.measure(options)
    else:
        parts_with_servers = {"streamer": streamer, "processor": processor, "syncer": syncer, "cleaner": cleaner}
        results = asyncio.run(parts_with_servers[options.part].main(options))
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}
    machine["compiled"] = COMPILED
    print(json.dumps({"part": options.part, "machine": machine, "results": results}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
