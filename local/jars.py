"""The jars of Apache Kafka: fetched by Maven once, pinned by SHA-256, kept outside the tree."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import pwd
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from local.process import PartError

_POM = Path(__file__).with_name("pom.xml")
_MANIFEST = Path(__file__).with_name("kafka.sha256")
_ERROR = re.compile(r"\[ERROR\] (.*?)(?: -> \[Help \d+\])?\s*$")
_DOWNLOADED = re.compile(r"^Downloaded from .*/([^/ ]+\.jar) ")


class DownloadError(PartError):
    """Maven could not fetch the jars. The text is one line."""


def kafka_version() -> str:
    """The release that the pom names."""
    found = re.search(r"<kafka.version>([^<]+)<", _POM.read_text())
    assert found  # our own file
    return found[1]


def manifest() -> dict[str, str]:
    """SHA-256 in hexadecimal for each jar's file name."""
    pairs = (line.split() for line in _MANIFEST.read_text().splitlines())
    return {name: sha256 for sha256, name in pairs}


def cache_folder() -> Path:
    """Where the jars of this release are kept, for all checkouts of one user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "event-pipeline" / f"kafka-{kafka_version()}"


def find_maven() -> str | None:
    """The path of `mvn`."""
    return shutil.which("mvn")


def are_cached() -> bool:
    """Whether no download is needed."""
    return cache_folder().is_dir()


async def fetch(say: Callable[[str], None]) -> Path:
    """The folder of the jars, each of them checked; downloads them (44 MB) when they are not there.

    Raises DownloadError when Maven fails, PartError when a jar isn't the pinned one.
    """
    folder = cache_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    async with _locked(folder.with_suffix(".lock")):
        if not folder.is_dir():
            fresh = folder.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            await _download(fresh, say)
            await asyncio.to_thread(_check, fresh)
            fresh.rename(folder)
            return folder
    await asyncio.to_thread(_check, folder)
    return folder


async def _download(folder: Path, say: Callable[[str], None]) -> None:
    maven = find_maven()
    if maven is None:
        raise PartError("Maven is not there, and the jars of Kafka are not cached")
    total, seen, reason = len(manifest()), 0, ""
    say(f"Kafka {kafka_version()}: Maven fetches {total} jars, 44 MB, this one time")
    process = await asyncio.create_subprocess_exec(
        *(maven, "-B", "-C", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"),
        *_repository(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        assert process.stdout
        async for line in process.stdout:
            text = line.decode(errors="replace").replace("[INFO] ", "")
            if not reason and (error := _ERROR.search(text)):
                reason = re.sub(r"https?://\S+/", "", error[1])[:200]
            found = _DOWNLOADED.match(text)
            if found and found[1] in manifest():
                seen += 1
                if seen % 10 == 0 or seen == total:
                    say(f"Kafka {kafka_version()}: {seen} of {total} jars")
        status = await process.wait()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if status != 0:
        raise DownloadError(f"Maven fails ({reason or f'status {status}'})")


def _repository() -> tuple[str, ...]:
    """Where Maven keeps what it fetched: below our own cache where the user has no home; Maven doesn't ask HOME."""
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        home = ""
    return () if os.access(home, os.W_OK) else (f"-Dmaven.repo.local={cache_folder().parent / 'maven'}",)


def _check(folder: Path) -> None:
    """Raises PartError unless `folder` has the pinned jars and nothing else."""
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.jar")}
    wrong = sorted(name for name, _ in found.items() ^ manifest().items())
    if wrong:
        raise PartError(f"{folder}: not as pinned in local/kafka.sha256: {', '.join(wrong)}; remove the folder")


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """One process at a time: two first starts must not write into one folder."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        await asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
