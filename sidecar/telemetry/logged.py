"""Lines of decision logs as readers see them: each reader takes the few fields that it needs."""

from __future__ import annotations

from sidecar.text.encoding import Raw, Record, decoded, decoder_of

_NOTHING = Raw()
_TEXTS = (
    "kind",
    "at",
    "decision_id",
    "reason",
    "detail",
    "user",
    "end_user",
    "workspace",
    "workspace_id",
    "action",
)


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


# Each raises ValueError or RecursionError for what is no JSON object of such fields.
sealed_line = decoder_of(SealedLine)
asked_line = decoder_of(AskedLine)
_found = decoder_of(FoundLine)


def found_line(raw: bytes) -> FoundLine:
    """Where a field is of another kind than a decision's, as an entity of AuthZEN is, it counts as absent."""
    try:
        return _found(raw)
    except ValueError:
        document = decoded(raw)
        if not isinstance(document, dict):
            raise
        fields = {name: document.get(name) for name in _TEXTS}
        texts = {name: text for name, text in fields.items() if isinstance(text, str)}
        v, status, allow = document.get("v", 0), document.get("status"), document.get("allow")
        return FoundLine(
            v=v if isinstance(v, int) else -1,
            status=status if isinstance(status, int) else None,
            allow=allow if isinstance(allow, bool) else None,
            **texts,
        )
