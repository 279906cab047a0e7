"""The Dockerfile, without Docker: what it copies is there, what it leaves out is not needed, nobody is root."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
STAGES = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL))
IMAGES = ("services", "local")

# Runs modules as the image does, where only the packages that requirements/base.txt names can be imported. In one
# process, because nearly all of the time goes into imports that they share.
FENCE = """
import contextlib, io, json, re, runpy, sys
from importlib.abc import MetaPathFinder
from importlib.metadata import packages_distributions
requirements, app, commands = sys.argv[1:]
def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()
allowed = {plain(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", open(requirements).read(), re.M)}
foreign = {top for top, names in packages_distributions().items() if not any(plain(name) in allowed for name in names)}
foreign -= {"pipeline", "database", "streamer", "processor", "syncer", "admin"}
class Fence(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in foreign:
            raise ModuleNotFoundError(f"{name} is not in requirements/base.txt", name=name)
sys.path.insert(0, app)
sys.meta_path.insert(0, Fence())
answers = {}
for module, *arguments in json.loads(commands):
    sys.argv = [module, *arguments]
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            status = 0
        except SystemExit as end:
            status = end.code
        except ImportError as error:
            status = str(error)
    answers[" ".join([module, *arguments])] = [status, said.getvalue()]
json.dump(answers, sys.stdout)
"""


def copied(stage: str) -> list[str]:
    """What a stage copies from the source tree."""
    return re.findall(r"^COPY (\S+)/ \S+$", STAGES[stage], re.MULTILINE)


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out; the last pattern that fits decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!").rstrip("/").removeprefix("**/")
        if not pattern or line.startswith("#"):
            continue
        parts = path.split("/")
        if fnmatch.fnmatch(path, pattern) or any(fnmatch.fnmatch(part, pattern) for part in parts):
            verdict = not line.startswith("!")
    return verdict


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder /app of the services' image."""
    folder = tmp_path_factory.mktemp("app")
    for name in copied("native"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("stage", ["native", "local", "packages"])
def test_what_is_copied_is_there_and_reaches_the_build(stage: str) -> None:
    assert copied(stage)
    for name in copied(stage):
        assert (ROOT / name).is_dir()
        assert not ignored(name)


def test_services_run_what_the_compiling_stage_built_and_nothing_else_of_it() -> None:
    (files,) = re.findall(r"^COPY ((?:\S+\.\S+ )+)\./$", STAGES["native"], re.MULTILINE)
    for name in files.split():
        assert (ROOT / name).is_file()
        assert not ignored(name)
    assert "NATIVE=build/native " in STAGES["native"]
    assert re.findall(r"^COPY --from=(\S+) (\S+)", STAGES["services"], re.MULTILINE) == [
        ("packages", "/opt/venv"),
        ("native", "/src/build/native/lib/"),
    ]


@pytest.mark.parametrize("path", [".local/demo/env", ".git/config", ".venv/bin/python", "tests/conftest.py", ".env"])
def test_state_secrets_and_tests_never_reach_the_build(path: str) -> None:
    assert ignored(path)


@pytest.mark.parametrize("stage", IMAGES)
def test_nobody_is_root_when_the_container_runs(stage: str) -> None:
    assert re.findall(r"^USER (\S+)$", STAGES[stage], re.MULTILINE) == ["10001:10001"]
    assert STAGES[stage].index("USER") > STAGES[stage].rindex("COPY")


def test_every_package_is_installed_by_its_hash() -> None:
    installs = re.findall(r"pip [^\n]* install [^\n]*", DOCKERFILE)
    assert installs
    for line in installs:
        assert "--require-hashes" in line
        assert "--only-binary :all:" in line


def test_image_holds_all_that_each_service_needs_to_start(app: Path, tmp_path: Path) -> None:
    """Every import works without tests, tools and the embedded stack: what is missing is the environment."""
    commands = [*([name] for name in ("streamer", "processor", "syncer", "admin")), ["database", "cleaner"]]
    result = subprocess.run(
        [sys.executable, "-c", FENCE, str(ROOT / "requirements" / "base.txt"), str(app), json.dumps(commands)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout)
    assert len(answers) == len(commands)
    for command, (status, said) in answers.items():
        assert (status, "DATABASE_URL is missing" in said) == (2, True), (command, status, said)
