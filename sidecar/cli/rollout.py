"""`sidecar rollout`: a release of plans and policies, step by step, up to the first that fails."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from sidecar.catalog.check import check_plans
from sidecar.cli import (
    EXIT_FOUND,
    EXIT_NOT_ASKED,
    EXIT_NOT_CONVERGED,
    owner_option,
    plans_option,
    policies_option,
)
from sidecar.cli.audit.differing import difference
from sidecar.cli.audit.sides import named_side
from sidecar.cli.checking import policies_checked
from sidecar.cli.migrate import files_of
from sidecar.cli.sources import policies_or_shipped, required_plans
from sidecar.errors import ConfigError, Interrupted
from sidecar.rego.load import compiled_at, plans_text

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.catalog.finding import Finding
    from sidecar.rego.compile import Compiled

_WITHIN_S = 300


@click.command(name="rollout")
@plans_option(demo=False)
@policies_option()
@owner_option(directly=True)
@click.option(
    "--status",
    "servers",
    metavar="URL",
    multiple=True,
    help="A server to wait for, as http://HOST:8080. May be repeated.",
)
@click.option(
    "--fail-on",
    multiple=True,
    type=click.Choice(["loss", "gain", "limit", "any"]),
    help="Publish nothing if the comparison finds one. May be repeated.",
)
@click.option(
    "--within",
    "within_s",
    type=click.IntRange(1, 3_600),
    default=_WITHIN_S,
    show_default=True,
    help="How many seconds to wait for the servers.",
)
@click.option("--dry-run", is_flag=True, help="Change nothing; print Markdown for a pull request.")
def command(
    *,
    plans: Path | None,
    policies: Path | None,
    database_url: str,
    servers: tuple[str, ...],
    fail_on: tuple[str, ...],
    within_s: int,
    dry_run: bool,
) -> int:
    """Check plans and policies, say whom the change concerns, migrate, and wait until every server follows.

    It stops at the first thing that is behind. Exit code 1: a finding, and nothing was published; 69: the
    database or a server was not reached; 75: published, and a server has not followed.
    """
    plans = required_plans(plans)
    folder = policies_or_shipped(policies, plans=plans)
    steps = _Steps(dry_run=dry_run)
    if problems := _problems(steps, plans, folder):
        steps.found("problems in the files: nothing was published", [str(each) for each in problems])
        return EXIT_FOUND
    compiled = compiled_at(plans, folder)
    steps.say(f"checked {plans} and {folder}: revision {compiled.revision}")
    for url in servers:
        steps.server(url, compiled.revision)
    stopped = _effect(steps, plans, folder, database_url=database_url, fail_on=fail_on)
    if stopped or dry_run:
        return EXIT_FOUND if stopped else 0
    if not _migrate(steps, plans, compiled, database_url):
        return EXIT_FOUND
    return _wait(steps, servers, compiled.revision, within_s)


class _Steps:
    """What is said: lines for whoever watches, or items of Markdown."""

    def __init__(self, *, dry_run: bool) -> None:
        self._dry_run = dry_run
        if dry_run:
            print("## Rollout, tried\n", flush=True)

    def say(self, line: str) -> None:
        print(f"- {line}" if self._dry_run else line, flush=True)

    def found(self, title: str, lines: list[str]) -> None:
        """What stops it."""
        if self._dry_run:
            print("\n".join([f"- **{title}**", "", "```text", *lines, "```"]))
        else:
            print("\n".join([*lines, title]))

    def block(self, text: str) -> None:
        print(f"\n{text}\n" if self._dry_run else text, flush=True)

    @property
    def form(self) -> str:
        return "md" if self._dry_run else "text"

    def server(self, url: str, revision: str) -> None:
        """Before anything is changed: one that is not reached cannot be waited for. NotAsked."""
        from sidecar.serving.convergence import status_at  # noqa: PLC0415 - slow imports, where they are needed

        behind = status_at(url, revision=revision).behind
        if self._dry_run:
            self.say(f"{url}: {'; '.join(behind) if behind else 'serves this revision'}")


def _problems(steps: _Steps, plans: Path, folder: Path) -> list[Finding]:
    checked = check_plans(plans_text(plans), source=str(plans))
    found = policies_checked(folder, checked.catalog, plans=plans, quick=False)
    for each in (*checked.warnings, *found.warnings):
        steps.say(str(each))
    return [*checked.problems, *found.problems]


def _effect(steps: _Steps, plans: Path, folder: Path, *, database_url: str, fail_on: tuple[str, ...]) -> bool:
    """Whether the difference from what is published is a finding. ConfigError for no URL of a database."""
    from sidecar.store.auditing import looking  # noqa: PLC0415 - ditto
    from sidecar.store.connections import parameters_of  # noqa: PLC0415 - ditto
    from sidecar.store.published import last_kept, published  # noqa: PLC0415 - ditto

    parameters_of(database_url)
    try:
        with looking(database_url) as looked:
            before = published(looked.connection, None)
            if before is None:
                steps.say("nothing is published yet: nobody is concerned")
                return False
            kept = partial(last_kept, looked.connection)
            old = named_side(before.revision, policies=None, archive=None, kept_revision=kept)
            new = named_side(str(plans), policies=folder, archive=None, kept_revision=None)
            found = difference(old, new, looked=looked, engine=None, limit=20)
    except ConfigError as error:
        steps.say(f"whom it concerns cannot be told: {error}")
        return bool(fail_on)
    steps.block(found.text(form=steps.form, made=f"asked of {found.engine}"))
    if found.live is not None and found.live.gone:
        lines = [f"{slug} is on {plan}" for slug, plan in found.live.gone]
        steps.found("workspaces are on a plan that is gone: move them first", lines[: found.live.limit])
        return True
    if matches := sorted(found.kinds & set(fail_on)):
        steps.found(f"--fail-on {', '.join(matches)}: nothing was published", [])
        return True
    return False


def _migrate(steps: _Steps, plans: Path, compiled: Compiled, database_url: str) -> bool:
    from sidecar.store.migrate import migrate  # noqa: PLC0415 - ditto

    try:
        migrated = migrate(
            database_url,
            catalog=compiled.catalog,
            revision=compiled.revision,
            files=files_of(plans, compiled),
        )
    except (ConfigError, Interrupted) as error:
        lines = [each.detail for each in error.problems] or [str(error)]
        steps.found("the database refuses it: nothing was published", lines)
        return False
    for name in migrated.applied:
        steps.say(f"applied {name}")
    for line in migrated.warnings:
        steps.say(f"warning: {line}")
    was = "as before" if migrated.replaced == migrated.revision else f"before: {migrated.replaced or 'none'}"
    steps.say(f"published {migrated.revision}, {was}")
    return True


def _wait(steps: _Steps, servers: tuple[str, ...], revision: str, within_s: int) -> int:
    if not servers:
        steps.say("no --status: whether the servers have followed was not asked")
        return 0
    from sidecar.serving.convergence import wait_until_converged  # noqa: PLC0415 - ditto

    behind = wait_until_converged(servers, revision=revision, within_s=within_s, say=steps.say)
    if not behind:
        steps.say(f"converged: {len(set(servers))} of {len(set(servers))} servers serve {revision}")
        return 0
    lines = [f"{url}: {why or 'not reached'}" for url, why in behind.items()]
    steps.found(
        f"published, but {len(behind)} of {len(set(servers))} have not followed within {within_s} s", lines
    )
    return EXIT_NOT_CONVERGED if any(behind.values()) else EXIT_NOT_ASKED
