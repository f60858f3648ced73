"""Flags: every feature, the plan, the role and the limits of one workspace, as OpenFeature names them.

A flag is a document of OFREP. It always has a variant, without which Python's provider takes the default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.decisions.room import limits_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.authorizer import FeatureState
    from sidecar.decisions.model import Facts

UNLIMITED = -1
OF_A_STRANGER = "not_a_member"
LIMIT = "limit:"


def keys_of(catalog: Catalog) -> tuple[str, ...]:
    """Of all flags. `sidecar check` refuses a feature whose name would be that of another flag."""
    return (*catalog.features, "plan", "role", *(f"{LIMIT}{meter}" for meter in catalog.meters))


def flag(
    key: str,
    facts: Facts | None,
    features: Mapping[str, FeatureState],
    *,
    catalog: Catalog,
    revision: str,
) -> dict[str, Any]:
    """One of `keys_of`. *facts* are None for a stranger, whose *features* are not looked at."""
    is_feature = key in catalog.features
    if facts is None:
        return _flag(
            key, variant=OF_A_STRANGER, on=False, revision=revision, **_NOT_UNLOCKED if is_feature else {}
        )
    if is_feature:
        state = features[key]
        return _flag(
            key,
            value=state.enabled,
            variant=_variant(key, state, facts),
            on=state.enabled,
            revision=revision,
            unlocked_by=",".join(state.unlocked_by),
        )
    if key == "plan":
        return _flag(key, value=facts.plan, variant=f"plan:{facts.plan}", revision=revision)
    if key == "role":
        return _flag(key, value=facts.role, variant=f"role:{facts.role}", revision=revision)
    meter = key.removeprefix(LIMIT)
    limit = limits_in(facts, catalog=catalog)[meter]
    return _flag(
        key,
        value=UNLIMITED if limit is None else limit,
        variant=_source(meter, limit, facts),
        revision=revision,
        unlimited=limit is None,
    )


_NOT_UNLOCKED: Mapping[str, Any] = {"value": False, "unlocked_by": ""}


def _flag(
    key: str,
    *,
    variant: str,
    revision: str,
    on: bool = True,
    value: bool | str | int | None = None,
    **metadata: bool | str,
) -> dict[str, Any]:
    """Metadata are texts, numbers and truths alone: of a list JavaScript's providers drop all of them."""
    return {
        "key": key,
        **({} if value is None else {"value": value}),
        "reason": "TARGETING_MATCH" if on else "DISABLED",
        "variant": variant,
        "metadata": {"policy_revision": revision, **metadata},
    }


def _variant(feature: str, state: FeatureState, facts: Facts) -> str:
    """Who decided about a feature: an override, the plan, or by its reason something else."""
    if not state.enabled and state.reason != "feature_not_in_plan":
        return state.reason
    if feature in facts.feature_overrides:
        return "override:on" if state.enabled else "override:off"
    return f"plan:{facts.plan}"


def _source(meter: str, limit: int | None, facts: Facts) -> str:
    if meter in facts.limit_overrides:
        return f"override:{'unlimited' if limit is None else limit}"
    return f"seats:{limit}" if meter in facts.seats else f"plan:{facts.plan}"
