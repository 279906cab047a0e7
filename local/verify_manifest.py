"""A client's manifests as a chain, from the newest back to the first, and the files that they add up to. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

SCHEMA_VERSION = 1


class ManifestError(ValueError):
    """A manifest that can't be read, or that is not the one which its successor names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file as the manifests describe it."""

    key: str
    sha256: str
    events: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """A file that was written anew, and what it took the place of: under another key when the prefix was changed."""

    file: File
    old_key: str
    old_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where the manifest before stands, and the digest that it must have."""

    key: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One run."""

    run_key: str
    files: tuple[File, ...]
    replaced: tuple[Replacement, ...]
    previous: Link | None


def manifest_key(prefix: str, run_key: str) -> str:
    """The key of a run's manifest."""
    return f"{prefix}manifests/{run_key}.json"


def read_manifest(body: bytes, *, client_id: str, prefix: str, sha256: str | None = None) -> Manifest:
    """Raises ManifestError when `body` is not this client's manifest, or has another digest than `sha256`."""
    if sha256 is not None and hashlib.sha256(body).hexdigest() != sha256:
        raise ManifestError("is not the manifest whose sha256 its successor names")
    try:
        values = orjson.loads(body)
        if values["schema_version"] != SCHEMA_VERSION:
            raise ManifestError("has an unknown schema_version")
        if values["client_id"] != client_id:
            raise ManifestError("is another client's")
        previous = values["previous_manifest"]
        return Manifest(
            run_key=values["run_key"],
            files=tuple(map(_file, values["files"])),
            replaced=tuple(map(_replaced, values["replaced"])),
            previous=previous and _link(previous, prefix),
        )
    except ManifestError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ManifestError("can't be read") from error


def files_of(newest_first: Iterable[Manifest]) -> dict[str, File]:
    """What the bucket must hold by key: all files of the chain, as the later replacements left them.

    What was replaced from another key no longer counts; it may still lie there, or in the bucket before. Raises
    ManifestError when a key is given to a second file, or when what is replaced was not there.
    """
    files: dict[str, File] = {}
    for manifest in reversed(list(newest_first)):
        for file in manifest.files:
            _add(files, manifest, file)
        for item in manifest.replaced:
            old = files.pop(item.old_key, None)
            if old is None:
                raise ManifestError(f"{manifest.run_key} replaces a file that was never listed: {item.old_key}")
            if old.sha256 != item.old_sha256:
                raise ManifestError(f"{manifest.run_key} replaces other content than was there: {item.old_key}")
            _add(files, manifest, item.file)
    return files


def _add(files: dict[str, File], manifest: Manifest, file: File) -> None:
    if file.key in files:
        raise ManifestError(f"{manifest.run_key} lists a key a second time: {file.key}")
    files[file.key] = file


def _file(values: dict[str, Any]) -> File:
    return File(key=values["key"], sha256=values["sha256"], events=int(values["events"]), bytes=int(values["bytes"]))


def _replaced(values: dict[str, Any]) -> Replacement:
    return Replacement(file=_file(values), old_key=values["old_key"], old_sha256=values["old_sha256"])


def _link(values: dict[str, Any], prefix: str) -> Link:
    return Link(key=values.get("key") or manifest_key(prefix, values["run_key"]), sha256=values["sha256"])
