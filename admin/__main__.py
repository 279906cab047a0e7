"""`python -m admin`, configured by the environment alone."""

import sys

from admin.pipeline import serve
from admin.settings import AdminSettings
from pipeline.service import run

if __name__ == "__main__":
    sys.exit(run("admin", AdminSettings, serve))
