"""A revision as it was kept: its plans.yaml and its bundle, verified against its name."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

from sidecar.catalog.catalog import Action, Catalog, Feature, Meter, Plan, Price, Role
from sidecar.catalog.check import check_plans
from sidecar.errors import ConfigError
from sidecar.rego.compile import Compiled, canonical, compiled
from sidecar.rego.context import context_fields_in
from sidecar.rego.lint import RESERVED, ROOTS

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_LARGEST_BUNDLE = 64 * 1024 * 1024


def kept(bundle: bytes, *, plans: bytes | None, revision: str, source: str) -> Compiled:
    """*bundle* as `rego.bundle` writes it; *source* says where it came from.

    With *plans*, the catalog of that file where it still compiles to the same revision; else what the
    bundle says of it, without titles, currency and routes. ConfigError if the bundle is of another revision,
    or none.
    """
    modules, data = content_of(bundle, source=source)
    modules = {path: text for path, text in modules.items() if not path.startswith(f"authz/{RESERVED}/")}
    found = data.get("authz", {}).get("plans", {}).get("revision")
    if found != revision:
        raise ConfigError(f"{source} holds revision {found}, not {revision}")
    if plans is not None:
        checked = check_plans(plans, source=source)
        if checked.catalog is not None:
            again = compiled(checked.catalog, modules)
            if again.revision == revision:
                return again
    return Compiled(
        catalog=_catalog_of(data["authz"]["plans"]),
        revision=revision,
        modules=modules,
        data=canonical({"authz": {"plans": data["authz"]["plans"]}}),
        context_fields=context_fields_in(modules),
    )


def archived(folder: Path, revision: str) -> bytes:
    """The bundle `<revision>.tar.gz` in *folder*; ConfigError if there is none."""
    path = folder / f"{revision}.tar.gz"
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error


def content_of(
    bundle: bytes, *, source: str, roots: Collection[str] = ROOTS
) -> tuple[dict[str, str], dict[str, Any]]:
    """The modules of *roots*, our own, by their path, and the data. ConfigError if it is no bundle."""
    modules: dict[str, str] = {}
    data: dict[str, Any] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(bundle), mode="r:gz") as archive:
            for entry in archive:
                file = archive.extractfile(entry) if entry.size <= _LARGEST_BUNDLE else None
                if file is None:
                    continue
                name = entry.name.removeprefix("/")
                if name == "data.json":
                    data = json.loads(file.read())
                elif name.endswith(".rego"):
                    modules[name] = file.read().decode()
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        raise ConfigError(f"{source} is no bundle: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{source} is no bundle: its data is no object")
    return {name: text for name, text in modules.items() if name.split("/")[0] in roots}, data


def _catalog_of(plans: dict[str, Any]) -> Catalog:
    """What policy data says of a catalog that today's checks refuse: enough for every situation."""
    roles = plans["roles"]
    return Catalog(
        currency="",
        roles={name: Role(name=name, title=name, includes=frozenset()) for name in roles},
        features={name: Feature(name=name, title=name) for name in plans["features"]},
        meters={name: Meter(name=name, title=name, kind="counter", per="ever") for name in plans["meters"]},
        plans={
            name: Plan(
                name=name,
                title=name,
                price=Price(amount=plans["plans"][name].get("price", 0), currency=""),
                features=frozenset(plans["plans"][name]["features"]),
                limits=plans["plans"][name]["limits"],
                sold=plans["plans"][name].get("sold", True),
            )
            for name in plans["by_price"]
        },
        default_plan=next(iter(plans["by_price"]), ""),
        actions={
            name: Action(
                name=name,
                title=name,
                roles=tuple(action["roles"]),
                feature=action["feature"],
                takes=action["takes"],
                while_suspended=action["while_suspended"],
            )
            for name, action in plans["actions"].items()
        },
        declared_actions=tuple(
            name for name in plans["actions"] if not name.startswith(("feature:", "role:"))
        ),
        routes=(),
        invariants=(),
    )
