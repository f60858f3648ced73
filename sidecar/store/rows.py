"""Rows of authz.facts_for: JSON lists without names, decoded by type."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID  # noqa: TC003 - msgspec reads the annotation

import msgspec
from msgspec import Meta, Struct

from sidecar.decisions.model import Facts, Usage
from sidecar.errors import FactsMisread
from sidecar.store.facts_token import FactsToken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_Count = Annotated[int, Meta(ge=0)]


class _Used(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    used: _Count
    reserved: _Count
    resets_at: str | None
    starts: str
    limit: list[_Count | None] = []


class _Row(Struct, array_like=True, gc=False):
    """In the order of the columns. A later migration may append some, which this version ignores."""

    workspace_id: UUID
    slug: str
    name: str
    role: str
    plan: str
    status: Literal["active", "suspended"]
    features: dict[str, bool]
    limits: dict[str, _Count | None]
    usage: dict[str, _Used]
    until: str | None
    version: int
    at: str


_ALL = msgspec.json.Decoder(list[_Row | None])
_EACH = msgspec.json.Decoder(list[msgspec.Raw])
_ONE = msgspec.json.Decoder(_Row | None)
_NOT_TYPED = (msgspec.DecodeError, UnicodeDecodeError)


def rows_in(raw: bytes, *, meters: Sequence[Sequence[str]]) -> list[Facts | FactsMisread | None]:
    """The answers to as many questions as *meters* has items: the meters that each needs, for Facts.usage.

    A row outside the contract, or without one of its meters, is a FactsMisread in its place; it is raised if
    there is not one row for each question.
    """
    try:
        rows: list[_Row | FactsMisread | None] = list(_ALL.decode(raw))
    except _NOT_TYPED:
        rows = list(_one_by_one(raw))
    if len(rows) != len(meters):
        raise FactsMisread(f"{len(rows)} rows of facts came for {len(meters)} questions")
    return [
        _facts(row, wanted) if isinstance(row, _Row) else row
        for row, wanted in zip(rows, meters, strict=True)
    ]


def _one_by_one(raw: bytes) -> Iterator[_Row | FactsMisread | None]:
    try:
        rows = _EACH.decode(raw)
    except _NOT_TYPED as error:
        raise FactsMisread(f"a list of facts was expected: {error}") from error
    for row in rows:
        try:
            yield _ONE.decode(row)
        except _NOT_TYPED as error:
            yield FactsMisread(
                f"facts outside their contract: {error} in {bytes(row).decode(errors='replace')}"
            )


def _facts(row: _Row, wanted: Sequence[str]) -> Facts | FactsMisread:
    try:
        return _facts_of(row, wanted)
    except (KeyError, ValueError) as error:
        return FactsMisread(f"facts outside their contract: {error!r} in workspace {row.slug}")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} without an offset")
    return moment


def _facts_of(row: _Row, wanted: Sequence[str]) -> Facts:
    """KeyError without one of its meters, ValueError for a time that is none."""
    found = row.usage
    usage: dict[str, Usage] = {}
    for meter in wanted:
        of = found[meter]
        usage[meter] = Usage(
            used=of.used, reserved=of.reserved, resets_at=_moment(of.resets_at) if of.resets_at else None
        )
    limits = row.limits
    if elsewhere := {meter: of.limit[0] for meter, of in found.items() if of.limit}:
        limits = limits | elsewhere
    return Facts(
        workspace_id=row.workspace_id,
        slug=row.slug,
        name=row.name,
        role=row.role,
        plan=row.plan,
        status=row.status,
        feature_overrides=row.features,
        limit_overrides=limits,
        usage=usage,
        at=_moment(row.at),
        token=FactsToken(
            version=row.version,
            periods={meter: of.starts for meter, of in found.items()},
            until=row.until,
        ),
    )
