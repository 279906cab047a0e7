"""`python -m syncer`: the service. With a command: what a person does by hand; `--help` lists them."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from pipeline.clients import CLIENT_ID
from pipeline.service import S, run
from pipeline.syncqueue import Hours, HoursError
from syncer import commands, dead_letters
from syncer.pipeline import serve
from syncer.settings import SyncerSettings


def main(arguments: list[str]) -> int:
    """The exit status: 0 done, 1 failed (the log or the output says why), 2 set up wrongly or used wrongly."""
    parser = _parser()
    options = parser.parse_args(arguments)
    match options.command:
        case "run":
            try:
                hours = Hours.parse(options.since, options.until, datetime.now(UTC))
            except HoursError as error:
                parser.error(str(error))
            return run(
                "syncer",
                SyncerSettings,
                lambda settings, stop: commands.deliver_once(settings, stop, options.client, hours),
            )
        case "test-connection":
            return _ask(
                commands.ConnectionSettings, lambda settings: commands.connection_test(settings, options.client)
            )
        case "dead-letters":
            return _ask(
                dead_letters.DeadLetterSettings,
                lambda settings: (
                    dead_letters.redrive(settings, options.id)
                    if options.action == "redrive"
                    else dead_letters.show(settings)
                ),
            )
        case _:
            return run("syncer", SyncerSettings, serve)


def _ask(settings_class: type[S], command: Callable[[S], Awaitable[bool]]) -> int:
    """Run a command that ends by itself with an answer; 0 when that is yes."""
    answers: list[bool] = []

    async def work(settings: S, _: asyncio.Event) -> None:
        answers.append(await command(settings))

    return run("syncer", settings_class, work) or (0 if all(answers) else 1)


def _client_id(text: str) -> str:
    if not CLIENT_ID.fullmatch(text):
        raise argparse.ArgumentTypeError("that is no client id")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m syncer", description="Without a command: the service.")
    commands = parser.add_subparsers(dest="command")
    once = commands.add_parser("run", help="deliver to one client now, then end")
    once.add_argument("--client", required=True, type=_client_id, metavar="ID")
    once.add_argument("--since", metavar="HOUR", help="first hour, e.g. 2026-11-23T05 (UTC)")
    once.add_argument("--until", metavar="HOUR", help="last hour, included")
    test = commands.add_parser("test-connection", help="try a client's bucket and say in words what is missing")
    test.add_argument("--client", required=True, type=_client_id, metavar="ID")
    dead = commands.add_parser("dead-letters", help="messages that failed too often").add_subparsers(
        dest="action", required=True
    )
    dead.add_parser("list", help="each with its reason, as JSON lines; they stay where they are")
    back = dead.add_parser("redrive", help="put those that can be read back on the queue")
    back.add_argument("--id", action="append", metavar="MESSAGE_ID", help="only this one; may be repeated")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
