"""`sidecar compile`: the policy data for OPA without Python, and a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from sidecar.catalog.compile import bundle, data_file
from sidecar.catalog.load import compiled_at
from sidecar.errors import ConfigError, Problem


@click.command(name="compile")
@click.option("--plans", type=click.Path(path_type=Path), default=Path("plans.yaml"), show_default=True)
@click.option("--policies", type=click.Path(path_type=Path), default=Path("policies"), show_default=True)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Where to write a bundle for OPA.")
def command(plans: Path, policies: Path, output: Path | None) -> None:
    """Write POLICIES/authz/plans/data.json, and a bundle with -o; print the revision."""
    result = compiled_at(plans, policies)
    _write(policies / "authz" / "plans" / "data.json", data_file(result.catalog))
    if output:
        _write(output, bundle(result))
    print(result.revision)


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing: OPA may be watching the file."""
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
