"""`python -m streamer`: one replica, configured by the environment alone."""

import sys

from pipeline.service import refuse_arguments, run
from streamer.pipeline import serve
from streamer.settings import StreamerSettings

if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(refuse_arguments("streamer"))
    sys.exit(run("streamer", StreamerSettings, serve))
