"""Prints a report, or writes it to a file: whole, or not at all."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sidecar.audit.moments import seconds_text
from sidecar.errors import NotAsked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sidecar.store.auditing import Looked

_LONG = 10_000  # rows


def report_options(*formats: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """--format of text, json and *formats* as `form`, --json in short, -o as `output`: Path or None."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        choice = click.Choice(["text", "json", *formats])
        for option in (
            click.option("--output", "-o", type=click.Path(path_type=Path), help="Write it to this file."),
            click.option("--json", "form", flag_value="json", help="The same as --format json."),
            click.option("--format", "form", type=choice, default="text", show_default=True),
        ):
            function = option(function)
        return function

    return add


def made_by(looked: Looked | None = None) -> dict[str, Any]:
    """The fields of Made that tell who made it, by which command and when, and which database was asked."""
    words = ["sidecar", *sys.argv[1:]]
    return {
        "by": f"policy-sidecar {version('policy-sidecar')}",
        "command": shlex.join(_without_secrets(words)),
        "at": seconds_text(datetime.now(UTC)),
        "login": looked.login if looked else None,
        "database": looked.database if looked else None,
    }


def say(text: str, *, output: Path | None) -> None:
    """*text* on standard output, or in *output*, mode 0600, complete or not at all; else NotAsked."""
    text = text if text.endswith("\n") else f"{text}\n"
    if output is not None:
        _write(output, text.encode())
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise NotAsked(f"standard output cannot be written: {error.strerror}") from error


def say_streamed(chunks: Iterable[bytes], *, output: Path | None, meta: dict[str, Any] | None = None) -> None:
    """As say, of a report that may be larger than the memory. *chunks* must not fail any more.

    With *meta*, FILE.meta.json stands beside *output*: it, and the SHA-256 of the file.
    """
    if output is not None:
        digest = sha256()
        _write(output, _digested(chunks, digest.update))
        if meta is not None:
            beside = output.with_name(f"{output.name}.meta.json")
            _write(beside, json_text({**meta, "sha256": digest.hexdigest()}).encode())
        return
    try:
        sys.stdout.flush()
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise NotAsked(f"standard output cannot be written: {error.strerror}") from error


def _digested(chunks: Iterable[bytes], update: Callable[[bytes], None]) -> Iterator[bytes]:
    for chunk in chunks:
        update(chunk)
        yield chunk


def say_csv(text: str, *, output: Path | None, meta: dict[str, Any]) -> None:
    """As say; beside *output* stands FILE.meta.json with *meta* and the SHA-256 of the file."""
    if output is None:
        say(text, output=None)
        return
    content = text.encode()
    beside = output.with_name(f"{output.name}.meta.json")
    _write(beside, json_text({**meta, "sha256": sha256(content).hexdigest()}).encode())
    try:
        _write(output, content)
    except NotAsked:
        beside.unlink(missing_ok=True)
        raise


def json_text(document: dict[str, Any]) -> str:
    """Indented, unless it is so long that nobody reads it and that indenting it takes most of the time."""
    is_long = any(isinstance(value, list) and len(value) > _LONG for value in document.values())
    return json.dumps(document, indent=None if is_long else 2, ensure_ascii=False)


def _write(path: Path, content: bytes | Iterable[bytes]) -> None:
    fresh = None
    try:
        descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        with os.fdopen(descriptor, "wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
        Path(fresh).replace(path)
    except OSError as error:
        raise NotAsked(f"{path} cannot be written: {error.strerror}") from error
    finally:
        if fresh:
            with suppress(OSError):
                Path(fresh).unlink(missing_ok=True)


def _without_secrets(words: list[str]) -> list[str]:
    """A report may be mailed: the URL of a database holds a password."""
    hidden = []
    for before, word in zip(["", *words], words, strict=False):
        if before == "--database-url":
            hidden.append("…")
        elif word.startswith("--database-url="):
            hidden.append("--database-url=…")
        else:
            hidden.append(word)
    return hidden
