"""The compiled build: made from a copy of the sources, it passes the tests of what it compiles, and leaves no trace."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)  # compiling takes most of a minute on a quiet machine

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "database", "streamer")
TESTS = ("test_walk.py", "test_outbox.py", "test_pgoutput.py", "test_rows_types.py", "test_privacy_*.py")


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages as `make native` builds them."""
    if shutil.which("cc") is None:
        assert not os.environ.get("CI"), "CI has a C compiler and must use it"
        pytest.skip("no C compiler: the services run as plain Python")
    tree = tmp_path_factory.mktemp("sources")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    environment = {**os.environ, "NATIVE": "build/native"}
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "build"],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert not list(tree.glob("[!b]*/**/*.so")), "a compiled file beside its source would outlive it"
    return tree / "build" / "native" / "lib"


def test_compiled_build_passes_the_tests_of_the_modules_in_it(lib: Path) -> None:
    tests = [str(path) for pattern in TESTS for path in sorted((ROOT / "tests" / "unit").glob(pattern))]
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-o", f"pythonpath={lib}", *tests],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(lib), "COMPILED_BUILD": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:]


def test_compiled_filter_prints_what_plain_python_prints(lib: Path) -> None:
    lines = (ROOT / "tests" / "corpus" / "privacy.jsonl").read_bytes().splitlines()[::50]
    events = b"".join(b'{"id":%d,"raw_event_data":%b}\n' % item for item in enumerate(lines))
    shutil.copytree(ROOT / "processor", lib / "processor", dirs_exist_ok=True)
    for level in ("standard", "gdpr", "hipaa"):
        outputs = {
            subprocess.run(
                [sys.executable, "-P", "-m", "processor", "filter", "--level", level],
                input=events,
                env={**os.environ, "PYTHONPATH": str(place)},
                capture_output=True,
                check=True,
            ).stdout
            for place in (ROOT, lib)
        }
        assert len(outputs) == 1
        assert outputs.pop().count(b"\n") == len(lines)
