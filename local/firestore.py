"""Google's Firestore emulator, where it is installed. It holds all data in memory: we export and import it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, ClassVar

from local.kafka import find_java
from local.part import Part, accepts_connections
from local.process import Command, PartError

PROJECT = "event-pipeline-local"
"""Every project name is accepted, and is an own world of data."""

_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
_JVM = ("-Xms32m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Duser.language=en")
_PLATFORM = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"


class Firestore(Part):
    """The emulator. `save` writes what it holds; `stop` saves; a start reads what was saved last."""

    name: ClassVar[str] = "Firestore emulator"

    def __init__(self, folder: Path, port: int, *, jar: Path) -> None:
        super().__init__(folder, port)
        self._jar = jar
        self._saving = asyncio.Lock()

    @property
    def host(self) -> str:
        """What FIRESTORE_EMULATOR_HOST has to be."""
        return f"127.0.0.1:{self.port}"

    @property
    def _exported(self) -> Path:
        return self.folder / "export"

    async def prepare(self) -> None:
        """An export that was interrupted between its two renames is put back."""
        if not self._exported.exists() and self._exported.with_suffix(".old").exists():
            self._exported.with_suffix(".old").rename(self._exported)
        self.version = await asyncio.to_thread(self._read_version)

    def _read_version(self) -> str:
        """Asked once for each jar: the answer takes a Java start."""
        known, jar = self.folder / "version.json", [str(self._jar), self._jar.stat().st_mtime_ns]
        if known.exists():
            stored: dict[str, Any] = json.loads(known.read_text())
            if stored["jar"] == jar:
                return str(stored["version"])
        java = find_java()
        if java is None:
            raise PartError("Java 17 or newer is not there")
        text = subprocess.run(
            [java, *_JVM, "-cp", self._jar, _CLASS, "--version"], capture_output=True, text=True, check=False
        ).stdout
        found = text.split()[-1] if text.split() else "of unknown version"
        known.write_text(json.dumps({"jar": jar, "version": found}))
        return found

    def command(self) -> Command:
        """It needs little memory: clients are a few hundred small documents."""
        java = find_java()
        if java is None:
            raise PartError("Java 17 or newer is not there")
        metadata = self._exported / "clients" / "clients.overall_export_metadata"
        saved = ("--import-data", str(metadata)) if metadata.exists() else ()
        return Command(
            argv=(
                *(java, *_JVM, "-cp", str(self._jar), _CLASS),
                *("--host", "127.0.0.1", "--port", str(self.port), *saved),
            ),
            log=self.log,
            folder=self.folder,
        )

    async def is_ready(self) -> bool:
        """Whether it takes connections: it listens last."""
        return await accepts_connections(self.port)

    async def save(self) -> None:
        """Export all documents. Raises OSError when the emulator does not answer; the last export then stands."""
        async with self._saving:
            fresh, old = self._exported.with_suffix(".new"), self._exported.with_suffix(".old")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=0o700)
            await asyncio.to_thread(self._export, fresh)
            shutil.rmtree(old, ignore_errors=True)
            if self._exported.exists():
                self._exported.rename(old)
            fresh.rename(self._exported)

    def _export(self, folder: Path) -> None:
        body = {
            "database": f"projects/{PROJECT}/databases/(default)",
            "export_directory": str(folder.resolve()),
            "export_name": "clients",
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(
                "POST",
                f"/emulator/v1/projects/{PROJECT}:export",
                body=json.dumps(body),
                headers={"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"the export was answered with status {answer.status}")
        except http.client.HTTPException as error:
            raise OSError(f"the export broke off ({type(error).__name__})") from error
        finally:
            connection.close()

    async def stop(self) -> None:
        """Save, then end it."""
        if self._process is not None and self._process.exit_status is None:
            self._process.expected_end = True
            try:
                await self.save()
            except OSError as error:
                raise PartError(f"{self.name} could not save its data: {error}") from error
            finally:
                await super().stop()


def find_jar() -> Path | None:
    """FIRESTORE_EMULATOR_JAR, else the one of an installed Google Cloud SDK."""
    if named := os.environ.get("FIRESTORE_EMULATOR_JAR"):
        return Path(named) if Path(named).is_file() else None
    gcloud = shutil.which("gcloud")
    roots = [Path(gcloud).resolve().parent.parent] if gcloud else []
    roots += [Path("/usr/lib/google-cloud-sdk"), Path("/opt/google-cloud-sdk"), Path.home() / "google-cloud-sdk"]
    return next((root / _PLATFORM for root in roots if (root / _PLATFORM).is_file()), None)
