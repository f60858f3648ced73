"""`sidecar compile`: the policy data for OPA without Python, and a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from sidecar.cli import plans_option, policies_option
from sidecar.cli.sources import own_policies, plans_or_shipped
from sidecar.engines.building import refuse_unbuilt
from sidecar.errors import ConfigError, Problem
from sidecar.rego.authzen import authzen_policy_at
from sidecar.rego.beside import Beside, besides_in
from sidecar.rego.bundle import served_bundle
from sidecar.rego.compile import data_file
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped


@click.command(name="compile")
@plans_option(demo=True)
@policies_option()
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Where to write a bundle for OPA.")
@click.option(
    "--authzen-policy",
    type=click.Path(path_type=Path),
    help="The folder of another domain's policy for AuthZEN, to be put into the bundle.",
)
def command(
    plans: Path | None, policies: Path | None, output: Path | None, authzen_policy: Path | None
) -> None:
    """Write POLICIES/authz/plans/data.json, and a bundle with -o; print the revision.

    A bundle that is there already stays beside the new one, so that OPA answers servers of both revisions.
    Where there are no policies of one's own, the shipped ones are taken, and stay as they are.
    """
    plans = plans_or_shipped(plans)
    of_ones_own = own_policies(policies, plans=plans)
    folder = of_ones_own or shipped("policies")
    result = compiled_at(plans, folder)
    refuse_unbuilt(result, folder)
    authzen = authzen_policy_at(authzen_policy) if authzen_policy else None
    if of_ones_own:
        _write(of_ones_own / "authz" / "plans" / "data.json", data_file(result.catalog))
    if output:
        new = {result.revision, *([authzen.revision] if authzen else [])}
        _write(output, served_bundle(result, authzen, before=_before(output, new=new)))
    print(result.revision)


def _before(path: Path, *, new: set[str]) -> list[Beside]:
    """What servers that are not reloaded yet are answered by, from the bundle that is there now."""
    try:
        return besides_in(path.read_bytes(), new=new, source=str(path))
    except (OSError, ConfigError):  # none is there, or something else: it is replaced
        return []


def _write(path: Path, content: bytes) -> None:
    """Write all or nothing: OPA may be watching the file."""
    beside = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        detail = f"cannot be written: {(error.strerror or str(error)).lower()}"
        raise ConfigError(
            f"{path} {detail}", problems=(Problem(pointer=str(path), detail=detail),)
        ) from error
