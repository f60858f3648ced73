"""Rows of authz.facts_for: JSON lists without names, decoded by type."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from sidecar.decisions.model import Facts, Override, ToCome, Usage
from sidecar.errors import FactsMisread, SidecarError
from sidecar.store.facts_token import FactsToken

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sidecar.store.names import Spoken

T = TypeVar("T")
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
    frees: dict[str, str | None] | None = None  # missing in a database before its migration
    seats: dict[str, _Count] | None = None  # ditto


class PlainRow(Struct, array_like=True, gc=False):
    """A row of authz.plain_facts: of somebody who is in the workspace."""

    workspace_id: Annotated[str, Meta(min_length=36, max_length=36)]
    slug: str
    name: str
    role: str
    plan: str
    status: Literal["active", "suspended"]
    overrides: dict[str, bool] | None
    version: int
    at: ClassVar[None] = None
    lag_ms: ClassVar[None] = None

    def facts(self, at: datetime) -> Facts:
        return Facts(
            workspace_id=UUID(self.workspace_id),
            slug=self.slug,
            name=self.name,
            role=self.role,
            plan=self.plan,
            status=self.status,
            feature_overrides=self.overrides or {},
            limit_overrides={},
            usage={},
            at=at,
            token=FactsToken(version=self.version, periods={}, until=None),
            version=self.version,
            seats=_NO_SEATS,
        )


class _Plain(Struct):
    at: str
    rows: list[PlainRow | None]


class _EachPlain(Struct):
    at: str
    rows: list[msgspec.Raw]


class _ToEnd(Struct, array_like=True, forbid_unknown_fields=True):
    limit: _Count | None
    ends_in_s: int | None


class _ToCome(Struct, array_like=True):
    used: _Count
    resets_in_s: int | None
    held: tuple[tuple[int, _Count], ...]
    override: _ToEnd | None


_COMING = msgspec.json.Decoder(list[dict[str, _ToCome] | None])
_ALL = msgspec.json.Decoder(list[_Row | None])
_PLAIN = msgspec.json.Decoder(_Plain)
_EACH_PLAIN = msgspec.json.Decoder(_EachPlain)
_ONE_PLAIN = msgspec.json.Decoder(PlainRow | None)
_EACH = msgspec.json.Decoder(list[msgspec.Raw])
_ONE = msgspec.json.Decoder(_Row | None)
_NO_SEATS: Mapping[str, int] = MappingProxyType({})
_NOT_TYPED = (msgspec.DecodeError, UnicodeDecodeError)


def rows_in(
    raw: bytes, *, meters: Sequence[Sequence[str]], spoken: Spoken | None = None
) -> list[Facts | SidecarError | None]:
    """The answers to as many questions as *meters* has items: the meters that each needs, for Facts.usage.

    *spoken* are the names that the rows are in, if they are not ours. A row outside the contract, or without
    one of its meters, is a FactsMisread in its place; it is raised if there is not one row for each question.
    """
    try:
        rows: list[_Row | FactsMisread | None] = list(_ALL.decode(raw))
    except _NOT_TYPED:
        rows = list(_one_by_one(_raw_rows(raw), _ONE))
    if len(rows) != len(meters):
        raise FactsMisread(f"{len(rows)} rows of facts came for {len(meters)} questions")
    if spoken is not None and not spoken.same:
        rows = [_in_our_names(row, spoken) if isinstance(row, _Row) else row for row in rows]
    return [
        _facts(row, wanted) if isinstance(row, _Row) else row
        for row, wanted in zip(rows, meters, strict=True)
    ]


def plain_rows_in(raw: bytes, *, questions: int, spoken: Spoken) -> tuple[list[PlainRow | None], datetime]:
    """The answers of authz.plain_facts to so many *questions*, and the time that they are true of.

    *spoken* is as in `rows_in`. FactsMisread if anything is outside the contract.
    """
    try:
        found = _PLAIN.decode(raw)
        at = _moment(found.at)
    except (*_NOT_TYPED, ValueError) as error:
        raise FactsMisread(f"facts outside their contract: {error}") from error
    rows = found.rows
    if len(rows) != questions:
        raise FactsMisread(f"{len(rows)} rows of facts came for {questions} questions")
    if not spoken.same:
        rows = [row and _plainly_in_our_names(row, spoken) for row in rows]
    return rows, at


def each_plain_row_in(
    raw: bytes, *, questions: int, spoken: Spoken
) -> tuple[list[PlainRow | FactsMisread | None], datetime]:
    """As `plain_rows_in`; a row outside the contract is a FactsMisread in its place."""
    try:
        rows, at = plain_rows_in(raw, questions=questions, spoken=spoken)
    except FactsMisread:
        pass  # mostly of one row alone
    else:
        return [*rows], at
    try:
        found = _EACH_PLAIN.decode(raw)
        at = _moment(found.at)
    except (*_NOT_TYPED, ValueError) as error:
        raise FactsMisread(f"facts outside their contract: {error}") from error
    if len(found.rows) != questions:
        raise FactsMisread(f"{len(found.rows)} rows of facts came for {questions} questions")
    each = _one_by_one(found.rows, _ONE_PLAIN)
    return [_plainly_in_our_names(row, spoken) if isinstance(row, PlainRow) else row for row in each], at


def to_come_in(raw: bytes, *, workspaces: Iterable[UUID]) -> dict[UUID, Mapping[str, ToCome]]:
    """What authz.to_come answers about *workspaces*, without those that are gone. FactsMisread."""
    try:
        rows = dict(zip(workspaces, _COMING.decode(raw), strict=True))
    except (*_NOT_TYPED, ValueError) as error:
        raise FactsMisread(f"what is to come is outside its contract: {error}") from error
    return {
        workspace: {meter: _to_come(of) for meter, of in meters.items()}
        for workspace, meters in rows.items()
        if meters is not None
    }


def _to_come(of: _ToCome) -> ToCome:
    override = None
    if of.override is not None:
        override = Override(limit=of.override.limit, ends_in_s=of.override.ends_in_s)
    return ToCome(used=of.used, resets_in_s=of.resets_in_s, held=of.held, override=override)


def _raw_rows(raw: bytes) -> list[msgspec.Raw]:
    try:
        return _EACH.decode(raw)
    except _NOT_TYPED as error:
        raise FactsMisread(f"a list of facts was expected: {error}") from error


def _one_by_one(rows: Iterable[msgspec.Raw], one: msgspec.json.Decoder[T]) -> Iterator[T | FactsMisread]:
    for row in rows:
        try:
            yield one.decode(row)
        except _NOT_TYPED as error:
            yield FactsMisread(
                f"facts outside their contract: {error} in {bytes(row).decode(errors='replace')}"
            )


def _in_our_names(row: _Row, spoken: Spoken) -> _Row:
    return msgspec.structs.replace(
        row,
        role=spoken.to_ours("role", row.role),
        plan=spoken.to_ours("plan", row.plan),
        features=spoken.keys_to_ours("feature", row.features),
        limits=spoken.keys_to_ours("meter", row.limits),
        usage=spoken.keys_to_ours("meter", row.usage),
        seats=spoken.keys_to_ours("meter", row.seats) if row.seats else None,
    )


def _plainly_in_our_names(row: PlainRow, spoken: Spoken) -> PlainRow:
    return msgspec.structs.replace(
        row,
        role=spoken.to_ours("role", row.role),
        plan=spoken.to_ours("plan", row.plan),
        overrides=row.overrides and spoken.keys_to_ours("feature", row.overrides),
    )


def _facts(row: _Row, wanted: Sequence[str]) -> Facts | FactsMisread:
    try:
        return _facts_of(row, wanted)
    except (KeyError, ValueError) as error:
        return FactsMisread(f"facts outside their contract: {error!r} in workspace {row.slug}")


@lru_cache(maxsize=64)  # the rows of one query say the same times
def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} without an offset")
    return moment


def _facts_of(row: _Row, wanted: Sequence[str]) -> Facts:
    """KeyError without one of its meters, ValueError for a time that is none."""
    found = row.usage
    frees = row.frees or {}
    usage: dict[str, Usage] = {}
    periods: dict[str, str] = {}
    limits = row.limits
    for meter in wanted:
        of = found[meter]
        usage[meter] = Usage(
            used=of.used,
            reserved=of.reserved,
            resets_at=_moment(of.resets_at) if of.resets_at else None,
            frees_at=_moment(ends) if frees and (ends := frees.get(meter)) else None,
        )
    if found:
        periods = {meter: of.starts for meter, of in found.items()}
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
        token=FactsToken(version=row.version, periods=periods, until=row.until),
        version=row.version,
        seats=row.seats or _NO_SEATS,
    )
