"""Lines of decision logs as readers see them: each reader takes the few fields that it needs.

Who decodes raises ValueError or RecursionError for what is no JSON object of such fields.
"""

from __future__ import annotations

from sidecar.text.encoding import Raw, Record, decoder_of

_NOTHING = Raw()


class SealedLine(Record, gc=False):
    """What `verify-log` looks at. Version 0 has no seal."""

    v: int = 0
    kind: str = ""
    at: str = ""
    writer: str = ""
    n: int = 0
    h: str = ""
    previous: str = ""
    decision_id: str | None = None
    allow: bool | None = None
    mode: str = ""
    user: str | None = None
    end_user: str | None = None
    policy_revision: str | None = None


class AskedLine(Record, gc=False):
    """What `replay` looks at. Fields that stand as JSON text are `Raw`, empty where there is none."""

    v: int = 0
    kind: str = ""
    at: str = ""
    decision_id: str | None = None
    allow: bool | None = None
    reason: str | None = None
    detail: str | None = None
    status: int | None = None
    policy_revision: str | None = None
    situation_sha256: str | None = None
    replayed: bool = False
    charges: Raw = _NOTHING
    upgrade: Raw = _NOTHING
    needs: Raw = _NOTHING
    waiting_helps: bool | None = None
    situation: Raw = _NOTHING
    mode: str = ""
    user: str | None = None
    workspace: str | None = None
    workspace_id: str | None = None
    action: str | None = None
    amounts: Raw = _NOTHING
    limits: Raw = _NOTHING


class FoundLine(Record, gc=False):
    """What `decisions` looks for."""

    v: int = 0
    kind: str = ""
    at: str = ""
    decision_id: str | None = None
    allow: bool | None = None
    reason: str | None = None
    detail: str | None = None
    status: int | None = None
    user: str | None = None
    end_user: str | None = None
    workspace: str | None = None
    workspace_id: str | None = None
    action: str | None = None
    upgrade: list[str] = []  # noqa: RUF012 - each line gets a list of its own
    situation: Raw = _NOTHING
    limits: Raw = _NOTHING


class _AnyLine(Record, gc=False):
    v: int = 0
    kind: str = ""
    at: str = ""


_any_line = decoder_of(_AnyLine)
sealed_line = decoder_of(SealedLine)


def asked_line(raw: bytes) -> AskedLine:
    """Of a line with fields of another kind than a decision's, as entities of AuthZEN, only what it is."""
    try:
        return _asked(raw)
    except ValueError:
        line = _any_line(raw)
        return AskedLine(v=line.v, kind=line.kind, at=line.at)


def found_line(raw: bytes) -> FoundLine:
    """As asked_line."""
    try:
        return _found(raw)
    except ValueError:
        line = _any_line(raw)
        return FoundLine(v=line.v, kind=line.kind, at=line.at)


_asked, _found = decoder_of(AskedLine), decoder_of(FoundLine)
