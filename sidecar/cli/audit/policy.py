"""`sidecar audit policy`: what was published, by whom, and its files."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.audit.made import Made
from sidecar.audit.moments import moment_text
from sidecar.cli.audit.options import at_option, database_option
from sidecar.cli.audit.report import json_text, made_by, say
from sidecar.cli.audit.workspaces import refuse_unusable
from sidecar.errors import ConfigError, NotAsked
from sidecar.rego.compile import CATALOG_DIGITS
from sidecar.rego.kept import kept
from sidecar.store import published
from sidecar.store.auditing import looking

if TYPE_CHECKING:
    from datetime import datetime

    from sidecar.store.auditing import Looked
    from sidecar.store.published import Kept

_ONLY_OURS = 0o600


@click.command(name="policy")
@database_option()
@at_option()
@click.option("--revision", metavar="REV", help="The last publication of this revision.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@click.option(
    "--output",
    "-o",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A new folder for the files: plans.yaml, policies/, and the bundle as REVISION.tar.gz.",
)
def command(
    *, database_url: str | None, at: datetime | None, revision: str | None, form: str, output: Path | None
) -> None:
    """What was published last, by now or by --at, and by whom."""
    if not database_url:
        raise click.UsageError("--database-url or SIDECAR_AUDIT_URL is required: what was published is there")
    if at is not None and revision is not None:
        raise click.UsageError("--at and --revision are two questions: ask one")
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise click.UsageError(f"-o: {output} is there already: name a new folder")
    with looking(database_url) as looked:
        found = _found(looked, at, revision)
        made = Made(
            **made_by(looked),
            as_of=moment_text(at),
            revision=found.publication.revision,
            catalog=found.publication.catalog[:CATALOG_DIGITS],
            population={"publications": len(published.publications(looked.connection, None, at))},
        )
    if output is not None:
        _write(output, found)
    _say(found, made, form=form, output=output)


def _found(looked: Looked, at: datetime | None, revision: str | None) -> Kept:
    if revision is not None:
        if found := published.last_kept(looked.connection, revision):
            return found
        raise ConfigError(f"revision {revision} was never published to this database")
    all_ = published.publications(looked.connection, None, None)
    first = f"the first publication that is kept is of {moment_text(all_[0].at)}" if all_ else ""
    if at is not None and all_:
        refuse_unusable(at, first)
    publication = published.published(looked.connection, at)
    if publication is not None:
        return published.files_of(looked.connection, publication)
    if at is not None and all_:
        raise click.UsageError(f"--at: {first}")
    raise ConfigError("this database keeps no policy that was published: publish one by sidecar migrate")


def _say(found: Kept, made: Made, *, form: str, output: Path | None) -> None:
    publication = found.publication
    if form == "json":
        document = {
            "made": made.document,
            "revision": publication.revision,
            "catalog": made.catalog,
            "published": {
                "at": moment_text(publication.at),
                "login": publication.login,
                "version": publication.version,
            },
        }
        say(json_text(document), output=None)
        return
    lines = [
        f"revision {publication.revision}, catalog {made.catalog}",
        f"published {moment_text(publication.at)} by {publication.login}, with {publication.version}",
    ]
    if output is not None:
        lines.append(f"its files are in {output}")
    say("\n".join(lines), output=None)


def _write(folder: Path, found: Kept) -> None:
    """All files, or none; ConfigError if the bundle is of another revision."""
    revision = found.publication.revision
    modules = kept(found.bundle, plans=None, revision=revision, source=f"revision {revision}").modules
    files = {"plans.yaml": found.plans, f"{revision}.tar.gz": found.bundle}
    files |= {f"policies/{path}": text.encode() for path, text in modules.items()}
    fresh = None
    try:
        fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))  # mode 0700
        for name, content in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(_ONLY_OURS)
            path.write_bytes(content)
        fresh.replace(folder)
    except OSError as error:
        raise NotAsked(f"{folder} cannot be written: {error.strerror}") from error
    finally:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)
