"""The admin's commands: who may log in, taking over the clients that a store already has, rotating its secrets."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from admin import changes, passwords
from admin.identity import Role
from admin.importing import import_clients
from admin.ledger import users
from admin.rotation import rotate_all
from database.ledger import Pool, audit, connected, open_pool
from pipeline import logs
from pipeline.clients import Client, ClientStore, PrivacyLevel, UnreadableClient
from pipeline.errors import ConfigError, PipelineError
from pipeline.secrets import SecretBox
from pipeline.settings import ClientStoreSettings, DatabaseSettings
from pipeline.stores import open_store

ACTOR = "command-line"

_NAME = re.compile(r"[^\s\x00-\x1f\x7f]{1,200}")


class CommandSettings(DatabaseSettings, ClientStoreSettings):
    """What the commands read from the environment."""


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0 done, 1 not done, 2 wrong arguments or environment."""
    options = _parser().parse_args(arguments)
    try:
        settings = CommandSettings.load()
        logs.configure("admin", settings.log_level)
        return asyncio.run(_run(options, settings))
    except ConfigError as error:
        _say(f"admin: {error}", error=True)
        return 2
    except PipelineError as error:
        _say(f"admin: {error}", error=True)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m admin", description="Without a command: the service.")
    commands = parser.add_subparsers(dest="command", required=True)
    user = commands.add_parser("user", help="who may log in to the pages").add_subparsers(dest="verb", required=True)
    add = user.add_parser("add", help="add a user, or give one another role and password (read from standard input)")
    add.add_argument("name")
    add.add_argument("--role", choices=[role.value for role in Role], required=True)
    add.add_argument("--oidc", action="store_true", help="logs in by OIDC_ISSUER only: the name is the email address")
    for verb, words in (("remove", "take a user away"), ("unlock", "open an account that wrong passwords closed")):
        user.add_parser(verb, help=words).add_argument("name")
    user.add_parser("list", help="all users")
    taking = commands.add_parser("import-clients", help="complete the clients that the store already has")
    taking.add_argument(
        "--privacy-level", type=PrivacyLevel, help="for clients that have none: standard, gdpr or hipaa"
    )
    taking.add_argument("--dry-run", action="store_true", help="say what would change")
    commands.add_parser("rotate-credentials", help="put every stored secret under the first of CREDENTIALS_KEYS")
    return parser


async def _run(options: argparse.Namespace, settings: CommandSettings) -> int:
    if options.command == "import-clients":
        return await _import(options, settings)
    if options.command == "rotate-credentials":
        return await _rotate(settings)
    name: str = getattr(options, "name", "")
    if options.verb == "add" and not _NAME.fullmatch(users.normal(name)):
        raise ConfigError("the name is wrong: 1 to 200 characters without blanks, such as an email address")
    hashed = await _read_password() if options.verb == "add" and not options.oidc else None
    async with open_pool(settings.ledger_dsn, max_size=1) as pool, connected(pool) as connection:
        if options.verb == "list":
            for user in await users.all_users(connection):
                words = [user.name, user.role.value, "password" if user.password_hash else "oidc"]
                _say("\t".join([*words, "locked"] if user.locked else words))
            return 0
        async with connection.transaction():
            if options.verb == "add":
                await users.put(connection, name, Role(options.role), hashed)
            elif not await (users.remove if options.verb == "remove" else users.unlock)(connection, name):
                _say(f"admin: there is no user {users.normal(name)}", error=True)
                return 1
            said = {"role": options.role} if options.verb == "add" else {}
            verb = {"add": "added", "remove": "removed", "unlock": "unlocked"}[options.verb]
            await audit.append(
                connection,
                actor=ACTOR,
                action=f"user.{verb}",
                client_id=None,
                subject=users.normal(name),
                details=said,
            )
    return 0


async def _read_password() -> str:
    """The password's hash. From a terminal it is asked for twice, unseen; otherwise it is one line."""
    if sys.stdin.isatty():
        password = await asyncio.to_thread(getpass.getpass, "Password: ")
        if await asyncio.to_thread(getpass.getpass, "Again: ") != password:
            raise ConfigError("the two passwords differ")
    else:
        password = (await asyncio.to_thread(sys.stdin.readline)).rstrip("\r\n")
    if fault := passwords.fault(password):
        raise ConfigError(fault)
    return await passwords.hashed(password)


async def _import(options: argparse.Namespace, settings: CommandSettings) -> int:
    async with _opened(settings) as (pool, store, box):
        put = None if options.dry_run else _putting(pool, store, "client.imported")
        for item in (found := await import_clients(store, box, level=options.privacy_level, put=put)):
            _say(f"{item.client_id}\t{item.outcome}\t{'; '.join(item.what)}")
    return 1 if any(item.outcome == "unreadable" for item in found) else 0


async def _rotate(settings: CommandSettings) -> int:
    async with _opened(settings) as (pool, store, box):
        done = await rotate_all(store, box, _putting(pool, store, "client.credentials_rotated"))
        said = {"rotated": done.rotated, "clients": done.clients, "left": len(done.left)}
        async with connected(pool) as connection, connection.transaction():
            await audit.append(connection, actor=ACTOR, action="credentials.rotated", client_id=None, details=said)
    for client_id, reason in done.left.items():
        _say(f"{client_id}\t{reason}", error=True)
    _say(f"{done.rotated} of {done.clients} clients rotated, {len(done.left)} can't be")
    _say("keep every key: mend these clients, then run it again" if done.left else "all but the first key can go")
    return 1 if done.left else 0


@asynccontextmanager
async def _opened(settings: CommandSettings) -> AsyncIterator[tuple[Pool, ClientStore, SecretBox]]:
    box = SecretBox([key.get_secret_value() for key in settings.credentials_keys])
    store = await open_store(kind=settings.client_store, project=settings.google_cloud_project, dsn=settings.ledger_dsn)
    try:
        async with open_pool(settings.ledger_dsn, max_size=2) as pool:
            yield pool, store, box
    finally:
        await store.close()


def _putting(
    pool: Pool, store: ClientStore, action: str
) -> Callable[[Client, Client | UnreadableClient], Awaitable[Client]]:
    """A way to change clients, with an entry of the audit log for each."""

    async def put(after: Client, before: Client | UnreadableClient) -> Client:
        return await changes.make(pool, store, after, before=before, actor=ACTOR, action=action)

    return put


def _say(line: str, *, error: bool = False) -> None:
    print(line, file=sys.stderr if error else sys.stdout)
