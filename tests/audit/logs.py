"""Decision logs to be tampered with: sealed as a sidecar does it, in a folder as it has them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from sidecar.audit import chain as chain_module
from sidecar.audit.chain import Chain
from sidecar.audit.completeness import Completeness
from sidecar.audit.verification import read
from sidecar.audit.wholeness import Wholeness
from sidecar.telemetry.log_files import LONGEST_LINE, log_files
from sidecar.telemetry.logged import sealed_line

BEGAN = datetime(2026, 11, 26, 8, tzinfo=UTC)
DAYS = ("2026-11-26", "2026-11-27", "2026-11-28")
SITUATION: dict[str, object] = {
    "action": "analytics.view",
    "overrides": {"features": {}},
    "plan": "starter",
    "role": "owner",
    "room": None,
    "status": "active",
}


def line_of(kind="decision", *, at=BEGAN, **says):
    """Without its last brace, as the log seals it."""
    return json.dumps({"v": 1, "kind": kind, "at": shown(at), **says}, separators=(",", ":")).encode()[:-1]


def decision(number, *, at=BEGAN, **says):
    return line_of(
        at=at,
        **{
            "endpoint": "authorize",
            "user": "sam",
            "workspace": "solo",
            "action": "analytics.view",
            "mode": "check",
            "workspace_id": "a4ee0000-0000-4000-8000-000000000000",
            "decision_id": f"{number:032x}",
            "allow": False,
            "reason": "feature_not_in_plan",
            "detail": None,
            "status": 402,
            "charges": {},
            "upgrade": ["pro", "team"],
            "needs": {"feature": "analytics"},
            "waiting_helps": False,
            "policy_revision": "r" * 32,
            "situation": SITUATION,
            "limits": {},
            **says,
        },
    )


def shown(at):
    return at.isoformat().replace("+00:00", "Z")


def sealed_days(writer, *, days=DAYS, each=4, ends=True):
    """The files of a writer: day → lines, each with its newline."""
    chain = Chain(writer)
    files: dict[str, list[bytes]] = {}
    for number, day in enumerate(days):
        at = BEGAN + timedelta(days=number)
        lines = files[day] = []
        if number == 0:
            lines.append(chain.seal(line_of("begin", at=at)))
        else:
            lines.append(chain.seal(line_of("day", at=at, previous=chain_module.shown(chain.head))))
        lines += [
            chain.seal(decision(chain.n, at=at + timedelta(seconds=second))) for second in range(1, each + 1)
        ]
    if ends:
        files[days[-1]].append(chain.seal(line_of("end", at=at + timedelta(minutes=1))))
    return files


def write(folder, writer, files):
    for day, lines in files.items():
        (folder / day).mkdir(parents=True, exist_ok=True)
        (folder / day / f"{writer}.jsonl").write_bytes(b"".join(lines))


def verified(*paths, anchors=None, begins_later=False):
    """Wholeness and Completeness of all that is there."""
    whole, complete = Wholeness(anchors, begins_later=begins_later), Completeness(looks_up=True)
    read(
        log_files([str(path) for path in paths]),
        decode=sealed_line,
        longest=LONGEST_LINE,
        whole=whole,
        complete=complete,
    )
    return whole, complete
