"""Prometheus and promtool from Debian's package: on PATH, or unpacked into a cache by `python -m tests.ops.prometheus`.

Unpacked, not installed: nothing is started, nothing of the system changes, and no root is needed where apt's lists are
there. `make test` runs it; where it can't, the tests that need Prometheus are skipped, but never in CI.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "event-pipeline" / "prometheus"


def find(program: str) -> Path | None:
    """`prometheus` or `promtool`."""
    installed = shutil.which(program)
    if installed:
        return Path(installed)
    cached = _cache() / "usr" / "bin" / program
    return cached if cached.is_file() else None


def require(program: str) -> Path:
    """The program, or a skipped test; CI has it and must use it."""
    found = find(program)
    if found is None:
        assert not os.environ.get("CI"), f"CI has {program} and must use it"
        pytest.skip(f"{program} is not there: apt-get install prometheus, or make test")
    return found


def fetch() -> int:
    """Unpack the package unless both programs are there. Always 0: a machine without apt runs the other tests."""
    if find("prometheus") and find("promtool"):
        return 0
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        print("Prometheus is not there, nor apt: tests of alerts and dashboard are skipped")  # noqa: T201 - for a person
        return 0
    _cache().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_cache().parent) as folder:
        if not _download(folder) and not (_run("apt-get", "-qq", "update", folder=folder) and _download(folder)):
            print("apt does not give Prometheus: tests of alerts and dashboard are skipped")  # noqa: T201 - for a person
            return 0
        package = next(Path(folder).glob("prometheus_*.deb"))
        if _run("dpkg-deb", "-x", str(package), "unpacked", folder=folder):
            shutil.rmtree(_cache(), ignore_errors=True)
            (Path(folder) / "unpacked").rename(_cache())
    return 0


def _download(folder: str) -> bool:
    return _run("apt-get", "-qq", "download", "prometheus", folder=folder)


def _run(*command: str, folder: str) -> bool:
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(fetch())
