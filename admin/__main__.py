"""`python -m admin`, configured by the environment alone; with a command: what operators do, `--help` lists it."""

import sys

if __name__ == "__main__":
    # Imported where they are needed: a command should not wait for the web framework.
    if len(sys.argv) > 1:
        from admin.commands import main

        sys.exit(main(sys.argv[1:]))
    from admin.pipeline import serve
    from admin.settings import AdminSettings
    from pipeline.service import run

    sys.exit(run("admin", AdminSettings, serve))
