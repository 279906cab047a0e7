"""`python -m streamer`: one replica, configured by the environment alone."""

import sys

from pipeline.service import run
from streamer.pipeline import serve
from streamer.settings import StreamerSettings

if __name__ == "__main__":
    sys.exit(run("streamer", StreamerSettings, serve))
