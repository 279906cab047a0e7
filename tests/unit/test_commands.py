"""Commands that are called wrongly: exit status 2, and words for a person, before any server is asked."""

from __future__ import annotations

import runpy
import sys

import pytest

WRONG = {
    "streamer extra": "takes no arguments",
    "processor nosuch": "no such command",
    "processor filter --level secret": "invalid choice",
    "processor replay --since 2026-11-23T05 --until 2026-11-23T04": "since lies after until",
    "processor replay --since 2026-11-23T05 --until 2026-11-23T05 --client ../x": "no client id",
    "syncer run --client ../x": "no client id",
    "syncer test-connection --client a/b": "no client id",
    "syncer run --client a --since yesterday": "since is no hour",
    "database reconcile --since yesterday": "yesterday is no time",
    "database reconcile --until 2026-11-23T99": "is no time",
    "database reconcile --client ../x": "no client id",
    "database layout --fan-out x": "KEY=N is expected",
    "database partition --days-ahead -1": "invalid choice",
    "database partition --days-ahead 100000": "invalid choice",
    "database audit verify --anchor x": "NUMBER:HASH",
    "admin user add bob --role king": "invalid choice",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_command_that_is_called_wrongly_says_so_with_exit_status_2(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, *arguments = words.split()
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    monkeypatch.delitem(sys.modules, f"{module}.__main__", raising=False)  # another test may have used it
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__")
    assert ended.value.code == 2
    assert WRONG[words] in capsys.readouterr().err
