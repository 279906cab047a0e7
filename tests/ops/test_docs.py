"""The documentation: what it names is there, what it shows runs, what it says of settings is what the code says."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from infra.deploy import DeploySettings
from pipeline.settings import Settings
from tests.ops.variables import COMMANDS, READERS, all_variables, default, variables

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"^# not run here: \S+", re.MULTILINE)


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of a page's code blocks."""
    return BLOCK.findall(page.read_text())


def commands(page: Path) -> list[list[str]]:
    """Our own commands on a page, in blocks and in the text: `make TARGET` and `python -m MODULE ...`."""
    text = page.read_text()
    lines = [line for _, block in blocks(page) for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", text)
    found = []
    for line in lines:
        words = line.split("#")[0].strip()
        if words.startswith(("make ", "python -m ")):
            found.append(shlex.split(words.replace("...", "")))
    return found


@cache
def defined_in(path: str) -> set[str]:
    return set(re.findall(r"^(?:async )?def (test_\w+)", (ROOT / path).read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_tests_and_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`", text):
        assert (ROOT / path).is_file(), path
        assert not name or name in defined_in(path), f"{path} has no {name}"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
    for path in re.findall(
        r"`((?:k8s|infra|docs|pipeline|processor|streamer|syncer|database|local|bench)/[\w./-]+)`", text
    ):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_python_of_a_page_runs_and_a_table_below_it_is_what_it_prints(page: Path) -> None:
    for language, code in blocks(page):
        if language != "python":
            continue
        result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        if result.stdout.startswith("| "):
            assert result.stdout in page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_shell_blocks_are_our_commands_or_say_why_they_are_not_run(page: Path) -> None:
    if page.name == "delivery.md":  # for readers of the bucket: run by tests/integration/test_syncer_documentation.py
        return
    for language, code in blocks(page):
        if language not in ("sh", "bash", "shell"):
            continue
        ours = all(line.startswith(("make ", "python -m ", "#")) for line in code.splitlines() if line.strip())
        assert NOT_RUN.search(code) or ours, f"{ids(page)}: mark it, or let it be run:\n{code}"


def test_the_capacity_guide_quotes_what_performance_says() -> None:
    """Each number of its table of figures stands in the section that it links to; what follows a "so" is computed."""
    number = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
    headings = re.split(r"^## (.+)$", (ROOT / "docs" / "performance.md").read_text(), flags=re.MULTILINE)[1:]
    sections = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-"): set(number.findall(text))
        for title, text in zip(headings[::2], headings[1::2], strict=True)
    }
    guide = (ROOT / "docs" / "capacity.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (.+?) \| \[[\w ]+\]\(performance\.md#([\w-]+)\) \|$", guide, re.MULTILINE)
    assert len(rows) >= 7
    quoted = {value for _, figures, _ in rows for value in number.findall(figures)}
    for name, figures, anchor in rows:
        assert set(number.findall(figures.split(", so ")[0])) <= sections[anchor], f"{name}: {figures}"
    (streamer, processor) = re.findall(r"^STREAMER_US, GDPR_PER_CORE, LOAD = ([\d.]+), ([\d_]+),", guide, re.MULTILINE)[
        0
    ]
    assert {streamer, processor.replace("_", ",")} <= quoted


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for page in PAGES for words in commands(page) if words[0] == "make"}
    assert named <= targets
    assert {"demo", "test", "deploy"} <= named


def test_every_command_that_is_named_takes_the_arguments_that_are_shown() -> None:
    """Its `--help` knows the subcommand and each option."""
    known: dict[tuple[str, ...], set[str]] = {}
    shown = [words for page in PAGES for words in commands(page) if words[:2] == ["python", "-m"]]
    for words in [*shown, *(["python", "-m", *arguments] for arguments in COMMANDS)]:  # those of containers too
        options = {word.split("=")[0].rstrip("]") for word in words if word.startswith("--")}
        names = itertools.takewhile(lambda word: re.fullmatch(r"[a-z][a-z-]+", word), words[3:])
        known.setdefault((words[2], *names), set()).update(options)
    answers = help_of(list(known))
    for call, text in answers.items():
        assert text is not None, f"python -m {' '.join(call)} is not there"
        assert {option for option in known[call] if option not in text} == set(), call


# One process for all: most of the time goes into imports, which they share.
HELP = """
import contextlib, io, json, runpy, sys
answers = []
for module, *arguments in json.load(sys.stdin):
    sys.argv = [module, *arguments, "--help"]
    said, status = io.StringIO(), None
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code
        except ImportError:
            status = 1
    answers.append(None if status else said.getvalue())
json.dump(answers, sys.stdout)
"""


def help_of(calls: list[tuple[str, ...]]) -> dict[tuple[str, ...], str | None]:
    """What `python -m CALL --help` says; None where it fails."""
    result = subprocess.run(
        [sys.executable, "-c", HELP], cwd=ROOT, input=json.dumps(calls), capture_output=True, text=True, check=True
    )
    return dict(zip(calls, json.loads(result.stdout), strict=True))


def test_table_of_variables_is_what_the_settings_say() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().split("\n## Variables\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| (.*?) \| (.*?) \| (.+?) \|$", section, re.MULTILINE)
    said = {name: (value, readers) for name, value, readers, _ in rows}
    expected = {}
    for name in all_variables():
        readers = [reader for reader, settings in READERS.items() if name in variables(settings)]
        expected[name] = (default(name), "all" if len(readers) == len(READERS) else ", ".join(readers))
    assert said == expected


def test_each_threat_has_a_test_or_a_setting_behind_it() -> None:
    section = (ROOT / "docs" / "security.md").read_text().split("\n## Threats\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    for threat, _, behind in rows:
        named = re.findall(r"`([^`]+)`", behind)
        assert named, threat
        for name in named:
            path = name.split("::")[0]
            assert name in all_variables() | {"IMAGE", "make deploy"} or (ROOT / path).is_file(), name


def test_each_promise_has_a_test_behind_it() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row] == []


def test_each_variable_of_the_deployment_is_documented() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().split("\n## Deploy it on AWS\n")[1].split("\n### ")[0]
    own = {name.upper() for name in DeploySettings.model_fields.keys() - Settings.model_fields.keys()}
    rows = "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))
    assert own - {"AWS_ENDPOINT_URL"} == set(re.findall(r"`([A-Z0-9_]+)`", rows))  # that one is for tests
