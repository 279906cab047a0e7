"""`python -m processor`: one member of the consumer group, configured by the environment alone."""

import sys

from pipeline.service import run
from processor.pipeline import serve
from processor.settings import ProcessorSettings

if __name__ == "__main__":
    sys.exit(run("processor", ProcessorSettings, serve))
