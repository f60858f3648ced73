"""Publishes a catalog: the tables that it fills, and the rows that refer to its names, in one transaction."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

from sidecar.errors import ConfigError, Problem
from sidecar.store.losses import losses_of, moved_to_default
from sidecar.store.renames import KINDS, change_to, published_in, stored_after

if TYPE_CHECKING:
    import psycopg

    from sidecar.catalog.catalog import Billing, Catalog
    from sidecar.store.losses import Loss
    from sidecar.store.renames import Change, Published

MOST_FORMER = 2  # revisions before the published one whose sidecars are answered in their names

REVISION = "SELECT revision FROM authz.catalog"
LOCK_NAMES = "SELECT pg_advisory_xact_lock(7022038)"  # as authz.change_as: whoever changes by name waits
PUT_ROLES = """
    WITH gone AS (DELETE FROM authz.roles WHERE name <> ALL (%(names)s::text[]))
    INSERT INTO authz.roles (name, rank) SELECT * FROM unnest(%(names)s::text[]) WITH ORDINALITY
    ON CONFLICT (name) DO UPDATE SET rank = excluded.rank
"""
PUT_ACTION_ROLES = """
    WITH gone AS (
        DELETE FROM authz.action_roles
        WHERE (action, role) NOT IN (SELECT * FROM unnest(%(actions)s::text[], %(roles)s::text[]))
    )
    INSERT INTO authz.action_roles (action, role) SELECT * FROM unnest(%(actions)s::text[], %(roles)s::text[])
    ON CONFLICT DO NOTHING
"""
PUT_FEATURES = """
    WITH gone AS (DELETE FROM authz.features WHERE name <> ALL (%(names)s::text[]))
    INSERT INTO authz.features (name) SELECT unnest(%(names)s::text[]) ON CONFLICT DO NOTHING
"""
PUT_METER = """
    INSERT INTO authz.meters (name, kind, per, anchor) VALUES (%s, %s, %s, %s)
    ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, per = excluded.per, anchor = excluded.anchor
"""
PUT_PLANS = """
    INSERT INTO authz.plans (name, rank) SELECT * FROM unnest(%(names)s::text[]) WITH ORDINALITY
    ON CONFLICT (name) DO UPDATE SET rank = excluded.rank
"""
PUT_REVISION = """
    INSERT INTO authz.catalog AS c (revision, default_plan) VALUES (%s, %s)
    ON CONFLICT (only_row) DO UPDATE
    SET revision = excluded.revision,
        default_plan = excluded.default_plan,
        published_at = CASE c.revision WHEN excluded.revision THEN c.published_at ELSE now() END
"""
ACTING = """
    SELECT authz.acting_as('sidecar migrate', 'sql'), set_config('authz.publishing', 'on', true)
"""
KEEP = """
    INSERT INTO authz.policy_history (revision, catalog, version, plans, bundle)
    SELECT %(revision)s, encode(sha256(%(plans)s), 'hex'), %(version)s, %(plans)s, %(bundle)s
    WHERE NOT EXISTS (
        SELECT FROM authz.policy_history
        WHERE id = (SELECT max(id) FROM authz.policy_history) AND plans = %(plans)s AND bundle = %(bundle)s
    )
"""
KNOWS_BILLING = "SELECT to_regprocedure('authz.refold_all()') IS NOT NULL"
BILLING = "SELECT authz.billing_of(c) FROM authz.catalog AS c"
PUT_BILLING = "UPDATE authz.catalog SET billing = %s"
REFOLD = "SELECT authz.refold_all()"
MOVE_DELETED = """
    UPDATE authz.workspaces
    SET plan_tier = CASE WHEN plan_tier = ANY (%(gone)s) THEN %(default)s ELSE plan_tier END,
        given_plan = CASE WHEN given_plan = ANY (%(gone)s) THEN %(default)s ELSE given_plan END
    WHERE (plan_tier = ANY (%(gone)s) OR given_plan = ANY (%(gone)s)) AND deleted_at IS NOT NULL
"""
DROP_PLANS = "DELETE FROM authz.plans WHERE name <> ALL (%(names)s::text[])"
DROP_PLAN_FEATURES = "DELETE FROM authz.plan_features"
DROP_PLAN_LIMITS = "DELETE FROM authz.plan_limits"
PUT_PLAN_FEATURE = "INSERT INTO authz.plan_features (plan, feature) VALUES (%s, %s)"
PUT_PLAN_LIMIT = "INSERT INTO authz.plan_limits (plan, meter, at_most) VALUES (%s, %s, %s)"
NEXT_GENERATION = "UPDATE authz.catalog SET names_generation = names_generation + 1"
STORE_NAMES = "SELECT authz.store_names(%s, %s)"
PUT_FORMER = """
    INSERT INTO authz.revisions (revision, number, names) VALUES (%s, %s, %s)
    ON CONFLICT (revision) DO UPDATE SET number = excluded.number, names = excluded.names
"""
STORED_OTHERWISE = "UPDATE authz.revisions SET names = %s WHERE revision = %s"
FORGET_FORMER = "DELETE FROM authz.revisions WHERE revision <> ALL (%s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What is kept of a publication: *plans* is plans.yaml as read, *bundle* as of `sidecar compile -o`."""

    plans: bytes
    bundle: bytes
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """*replaced* is the revision before; *warnings* say what was lost on purpose, or moved."""

    replaced: str | None
    warnings: tuple[str, ...]


def publish(
    connection: psycopg.Connection,
    catalog: Catalog,
    revision: str,
    *,
    accept_loss: bool,
    files: Files | None = None,
) -> Publication:
    """ConfigError, and nothing is changed, if rows would lose what they refer to; each loss is a problem."""
    with connection.transaction():
        connection.execute(ACTING)
        (replaced,) = connection.execute(REVISION).fetchone() or (None,)
        before = published_in(connection)
        change = change_to(catalog, revision, before=before)
        losses: list[Loss] = []
        if change.touches_rows:
            connection.execute(LOCK_NAMES)
            losses = losses_of(connection, change, catalog=catalog, before=before)
        refused = [loss for loss in losses if not (accept_loss and loss.acceptable)]
        if refused:
            raise ConfigError(
                "; ".join(loss.says for loss in refused),
                problems=tuple(Problem(pointer="sidecar", detail=line) for line in _lines(refused)),
            )
        moved = moved_to_default(connection, change.gone["plan"])
        _write(connection, catalog, change)
        connection.execute(PUT_REVISION, (revision, catalog.default_plan))
        _put_billing(connection, catalog.billing)
        if before.remembers and _remember(connection, before, change, revision, replaced):
            connection.execute(NEXT_GENERATION)
        connection.execute(DROP_PLANS, {"names": list(catalog.plans)})
        if files is not None:
            connection.execute(KEEP, asdict(files) | {"revision": revision})
    return Publication(replaced=replaced, warnings=(*(f"lost: {loss.says}" for loss in losses), *moved))


def _put_billing(connection: psycopg.Connection, billing: Billing | None) -> None:
    """A database of a version before knows none."""
    (knows,) = connection.execute(KNOWS_BILLING).fetchone() or (False,)
    if knows:
        before = connection.execute(BILLING).fetchone()
        connection.execute(PUT_BILLING, (Jsonb(asdict(billing)) if billing else None,))
        if before != connection.execute(BILLING).fetchone():
            connection.execute(REFOLD)


def _lines(losses: list[Loss]) -> list[str]:
    hint = (
        ["nothing was published; sidecar migrate --accept loss does, and leaves these rows dead"]
        if all(loss.acceptable for loss in losses)
        else ["nothing was published"]
    )
    return [*(loss.says for loss in losses), *hint]


def _write(connection: psycopg.Connection, catalog: Catalog, change: Change) -> None:
    plans = {"names": list(catalog.plans)}
    with connection.cursor() as cursor:
        cursor.execute(DROP_PLAN_FEATURES)
        cursor.execute(DROP_PLAN_LIMITS)
        cursor.execute(PUT_PLANS, plans)
        for moved in (change.buried, change.renamed):
            for kind in KINDS:
                if names := moved.get(kind):
                    cursor.execute(STORE_NAMES, (kind, Jsonb(names)))
        if gone := sorted(change.gone["plan"]):
            cursor.execute(MOVE_DELETED, {"default": catalog.default_plan, "gone": gone})
        cursor.execute(PUT_ROLES, {"names": list(catalog.roles)})
        cursor.execute(PUT_ACTION_ROLES, _action_roles(catalog))
        cursor.execute(PUT_FEATURES, {"names": list(catalog.features)})
        cursor.executemany(
            PUT_METER, [(each.name, each.kind, each.per, each.anchor) for each in catalog.meters.values()]
        )
        cursor.executemany(
            PUT_PLAN_FEATURE,
            [(plan.name, feature) for plan in catalog.plans.values() for feature in sorted(plan.features)],
        )
        cursor.executemany(
            PUT_PLAN_LIMIT,
            [
                (plan.name, meter, limit)
                for plan in catalog.plans.values()
                for meter, limit in plan.limits.items()
            ],
        )


def _remember(
    connection: psycopg.Connection, before: Published, change: Change, revision: str, replaced: str | None
) -> bool:
    """Whether a former revision has names that are stored otherwise now."""
    former = dict(before.former)
    if replaced is not None:
        former.setdefault(replaced, {})
    former.pop(revision, None)
    kept = list(former)[-MOST_FORMER:]
    changed = False
    for each in kept:
        names = stored_after(former[each], change, declared=before.names if each == replaced else None)
        changed = changed or names != former[each]
        if each not in before.former:
            connection.execute(PUT_FORMER, (each, before.last_number + 1, Jsonb(names)))
        elif names != former[each]:
            connection.execute(STORED_OTHERWISE, (Jsonb(names), each))
    if revision != replaced or revision not in before.former:
        connection.execute(PUT_FORMER, (revision, before.last_number + 2, Jsonb({})))
    connection.execute(FORGET_FORMER, ([*kept, revision],))
    # A revision that is published again has its names as they are stored.
    return changed or bool(before.former.get(revision))


def _action_roles(catalog: Catalog) -> dict[str, list[str]]:
    pairs = [(action, role) for action in catalog.declared_actions for role in catalog.actions[action].roles]
    return {"actions": [action for action, _ in pairs], "roles": [role for _, role in pairs]}
