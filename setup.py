"""Compiles the hot modules with mypyc when NATIVE names a folder below this one; else the package is plain Python.

    NATIVE=build/native python setup.py build      # `make native`: all packages, ready to run, in build/native/lib

The sources are the same either way, and so are the results: docs/decisions/0008-compiled-modules.md.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import setup

COMPILED = (
    "pipeline/privacy/*.py",
    "pipeline/record.py",
    "streamer/outbox.py",
    "streamer/recordbatch.py",
    "streamer/walk.py",
)
"""Where the CPU time of an event goes. `__init__.py` files have nothing to run."""


def modules() -> list[str]:
    """The files to compile, relative to this one."""
    found = (path for pattern in COMPILED for path in Path().glob(pattern))
    return sorted(str(path) for path in found if path.name != "__init__.py")


def build() -> None:
    """What setuptools is told."""
    folder = os.environ.get("NATIVE")
    if not folder:
        setup()
        return
    from mypyc.build import mypycify

    Path(folder).mkdir(parents=True, exist_ok=True)
    setup(
        ext_modules=mypycify(
            ["--cache-dir", f"{folder}/cache", *modules()],  # it caches C files too, and names them by their paths
            opt_level="3",
            debug_level="0",
            target_dir=f"{folder}/c",
        ),
        options={
            "build": {"build_base": f"{folder}/work", "build_lib": f"{folder}/lib"},
            "egg_info": {"egg_base": folder},
        },
    )


build()
