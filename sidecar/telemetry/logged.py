"""Lines of decision logs as readers see them: each reader takes the few fields that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

VERSIONS = (0, 1)
_NOTHING = msgspec.Raw()


class SealedLine(msgspec.Struct, gc=False):
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


class AskedLine(msgspec.Struct, gc=False):
    """What `replay` looks at. Fields that stand as JSON text are `msgspec.Raw`, empty where there is none."""

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
    charges: msgspec.Raw = _NOTHING
    upgrade: msgspec.Raw = _NOTHING
    needs: msgspec.Raw = _NOTHING
    waiting_helps: bool | None = None
    situation: msgspec.Raw = _NOTHING


class FoundLine(msgspec.Struct, gc=False):
    """What `decisions` looks for."""

    v: int = 0
    kind: str = ""
    at: str = ""
    decision_id: str | None = None
    allow: bool | None = None
    reason: str | None = None
    status: int | None = None
    user: str | None = None
    end_user: str | None = None
    workspace: str | None = None
    workspace_id: str | None = None
    action: str | None = None
    upgrade: list[str] = msgspec.field(default_factory=list)
    situation: msgspec.Raw = _NOTHING
    limits: msgspec.Raw = _NOTHING


sealed_line: Callable[[bytes], SealedLine] = msgspec.json.Decoder(SealedLine).decode
asked_line: Callable[[bytes], AskedLine] = msgspec.json.Decoder(AskedLine).decode
found_line: Callable[[bytes], FoundLine] = msgspec.json.Decoder(FoundLine).decode
