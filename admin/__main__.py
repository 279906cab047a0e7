"""`python -m admin`, configured by the environment alone; `python -m admin user`, `python -m admin import-clients`."""

import sys

from admin.pipeline import serve
from admin.settings import AdminSettings
from pipeline.service import run

if __name__ == "__main__":
    if len(sys.argv) > 1:
        from admin.commands import main

        sys.exit(main(sys.argv[1:]))
    sys.exit(run("admin", AdminSettings, serve))
