"""A catalog and the policies become what an engine loads: policy data and a revision."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sidecar.rego.context import context_fields_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.catalog.catalog import Action, Catalog, Plan

REVISION_DIGITS = 32  # 128 bits: no collisions, and short enough for a log line
CATALOG_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """*modules* maps a policy's path to its Rego, without tests; *data* is what OPA calls `data`, as JSON."""

    catalog: Catalog
    revision: str
    modules: Mapping[str, str]
    data: bytes
    context_fields: frozenset[str]


def compiled(catalog: Catalog, modules: Mapping[str, str]) -> Compiled:
    """*modules* have no problems (`rego.problems_in`)."""
    revision = _revision(catalog, modules)
    plans = policy_data(catalog, revision=revision)
    return Compiled(
        catalog=catalog,
        revision=revision,
        modules=dict(sorted(modules.items())),
        data=canonical({"authz": {"plans": plans}}),
        context_fields=context_fields_in(modules),
    )


def policy_data(catalog: Catalog, *, revision: str) -> dict[str, Any]:
    """`data.authz.plans`. None stands for no feature needed and for no limit; no key is ever absent."""
    return {
        "actions": {name: _action(action) for name, action in catalog.actions.items()},
        "by_price": list(catalog.plans),
        "features": sorted(catalog.features),
        "meters": sorted(catalog.meters),
        "plans": {name: _plan(plan) for name, plan in catalog.plans.items()},
        "revision": revision,
        "roles": list(catalog.roles),
    }


def data_file(catalog: Catalog) -> bytes:
    """The committed policies/authz/plans/data.json, for OPA without Python; its revision is always `dev`."""
    data = policy_data(catalog, revision="dev")
    return (json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _action(action: Action) -> dict[str, object]:
    return {
        "feature": action.feature,
        "roles": list(action.roles),
        "takes": dict(action.takes),
        "while_suspended": action.while_suspended,
    }


def _plan(plan: Plan) -> dict[str, object]:
    return {
        "features": sorted(plan.features),
        "limits": dict(plan.limits),
        "price": plan.price.amount,
        "sold": plan.sold,
    }


def _revision(catalog: Catalog, modules: Mapping[str, str]) -> str:
    """The hash of the rules and of all of plans.yaml that answers depend on, titles and routes included."""
    content = {
        "modules": dict(modules),
        "document": catalog.document,
        "plans": policy_data(catalog, revision=""),
    }
    return sha256(canonical(content)).hexdigest()[:REVISION_DIGITS]


def catalog_digest(plans: bytes) -> str:
    """Of the bytes of plans.yaml: unlike the revision it changes with comments and invariants too."""
    return sha256(plans).hexdigest()[:CATALOG_DIGITS]


def canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
