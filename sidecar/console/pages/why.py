"""Why?: a decision with its chain, as `sidecar audit explain` makes it, and what would change it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sidecar.audit.matrix_cases import flow
from sidecar.audit.moments import moment_text
from sidecar.console.pages.page import Asked, Made, Page
from sidecar.console.places import linked
from sidecar.console.reading import CannotRead, as_auditor
from sidecar.reports.explained import from_line, from_question, line_about
from sidecar.reports.explanation import explanation
from sidecar.reports.misasked import Misasked
from sidecar.reports.ruling import Ruling, by_database
from sidecar.store.published import known_since
from sidecar.text.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.reports.explained import Explained
    from sidecar.store.auditing import Looked

_FIELDS = ("user", "workspace", "action", "amounts", "date")
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_AMOUNT = re.compile(r"([^=\s]+)=([0-9]{1,15})", re.ASCII)
_OPTION = re.compile(r"^--(\w+): ")


def why(asked: Asked) -> Made:
    values: dict[str, Any] = {
        "fields": {name: asked.of(name) for name in _FIELDS},
        "actions": asked.sources.compiled.catalog.declared_actions,
        "report": None,
        "says": None,
    }
    status = HTTPStatus.OK
    try:
        if asked.of("decision"):
            values |= _of_a_line(asked)
        elif asked.of("user") and asked.of("workspace") and asked.of("action"):
            values |= _of_a_question(asked)
        elif any(values["fields"].values()):
            values["says"] = "Name a user, a workspace and an action."
            status = HTTPStatus.BAD_REQUEST
    except Misasked as error:
        values["says"] = _OPTION.sub("", str(error))
        status = HTTPStatus.BAD_REQUEST
    except CannotRead as error:
        values["says"] = error.says
        status = HTTPStatus.SERVICE_UNAVAILABLE
    return Made(template="why.html", values=values, status=status)


def _of_a_question(asked: Asked) -> dict[str, Any]:
    at, amounts = _moment_of(asked.of("date")), _amounts_of(asked.of("amounts"))
    with as_auditor(asked.sources.audit_url) as looked:
        _refuse_before_the_history(looked, at)
        ruling = asked.sources.engines.ruling(looked, at=at)
        actions, action = ruling.compiled.catalog.actions, asked.of("action")
        if action not in actions:
            raise Misasked(f'action "{action}" is not known{did_you_mean(action, actions)}')
        explained = from_question(
            looked,
            ruling,
            user=asked.of("user"),
            workspace=asked.of("workspace"),
            action=asked.of("action"),
            amounts=amounts,
            at=at,
            context={},
        )
        report = explanation(explained, ruling, None, by=asked.sources.engines.of(ruling.compiled))
    return _values(report, explained, ruling, action=asked.of("action"), amounts=amounts, at=at)


def _of_a_line(asked: Asked) -> dict[str, Any]:
    """A decision of the log, which its *day* finds quickly."""
    folder, day = asked.sources.log_dir, asked.of("day")
    if folder is None:
        raise CannotRead("Set SIDECAR_LOG_DIR to keep decisions where the console can read them.")
    if not _DAY.fullmatch(day) or not (folder / day).is_dir():
        raise Misasked("name the day of the decision, as the page Decisions links it")
    line = line_about(asked.of("decision"), [str(folder / day)])
    with as_auditor(asked.sources.audit_url) as looked:
        ruling = by_database(looked, revision=str(line["policy_revision"]))
        explained = from_line(line, ruling, looked)
        report = explanation(explained, ruling, line, by=asked.sources.engines.of(ruling.compiled))
    values = _values(report, explained, ruling, action=line["action"], amounts=line.get("amounts"), at=None)
    names = {"user": line["user"], "workspace": line["workspace"], "action": line["action"] or ""}
    return values | {"line": line, "fields": {**values["asked"], **names, "amounts": "", "date": ""}}


def _values(
    report: Mapping[str, Any],
    explained: Explained,
    ruling: Ruling,
    *,
    action: str | None,
    amounts: Mapping[str, int] | None,
    at: datetime | None,
) -> dict[str, Any]:
    return {
        "report": report,
        "asked": {"user": explained.user, "workspace": explained.called, "action": action},
        "facts": list(zip(report["facts"], report["words"], strict=True)),
        "rules": [(rule, [linked(place) for place in rule["places"]]) for rule in report["rules"]],
        "revision": ruling.compiled.revision,
        "at": moment_text(at),
        "case": _case(report, explained, action=action, amounts=amounts),
    }


def _case(
    report: Mapping[str, Any],
    explained: Explained,
    *,
    action: str | None,
    amounts: Mapping[str, int] | None,
) -> str:
    """What `sidecar test` reads: it asserts this very answer."""
    verdict, situation = report["verdict"], explained.asked
    question: dict[str, Any] = {"user": explained.user, "workspace": explained.called, "action": action}
    if amounts:
        question["amounts"] = dict(amounts)
    facts: dict[str, Any] | None = None
    if situation.is_member:
        facts = {"plan": situation.plan or "", "role": situation.role or ""}
        if situation.status != "active":
            facts["status"] = situation.status
        overrides: dict[str, Any] = {}
        if situation.features:
            overrides["features"] = dict(situation.features)
        limits = {
            meter: "unlimited" if of["limit"] is None else of["limit"]
            for meter, of in explained.figures.items()
            if of["of"] in {"override", "seats"}
        }
        if limits:
            overrides["limits"] = limits
        if overrides:
            facts["overrides"] = overrides
        for name in ("used", "reserved"):
            if counted := {meter: of[name] for meter, of in explained.figures.items() if of[name]}:
                facts["usage" if name == "used" else name] = counted
    want = {"allow": verdict["allow"], "status": verdict["http_status"], "reason": verdict["reason"]}
    want |= {name: verdict[name] for name in ("upgrade", "needs", "detail") if verdict.get(name)}
    says = "may" if verdict["allow"] else "may not"
    story = f"{explained.user} {says} {action} in {explained.called}"
    shown = "null" if facts is None else flow(facts)
    return f"- story: {flow(story)}\n  question: {flow(question)}\n  facts: {shown}\n  want: {flow(want)}\n"


def _moment_of(text: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(f"{text}T00:00:00+00:00" if _DAY.fullmatch(text) else text)
    except ValueError:
        raise Misasked("the date is none: write 2026-10-01, or 2026-10-01T09:00:00Z") from None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    if at > datetime.now(UTC):
        raise Misasked("the date is in the future, of which no fact is known")
    return at


def _refuse_before_the_history(looked: Looked, at: datetime | None) -> None:
    since = known_since(looked.connection) if at else None
    if at and (since is None or at < since):
        first = f"its first moment is {moment_text(since)}" if since else "it has none yet"
        raise Misasked(f"{moment_text(at)} is before the history begins: {first}")


def _amounts_of(text: str) -> dict[str, int] | None:
    found = {}
    for part in re.split(r"[,\s]+", text) if text else ():
        amount = _AMOUNT.fullmatch(part)
        if amount is None:
            raise Misasked(f'"{part}" is no amount: write METER=N, as minutes=5')
        found[amount[1]] = int(amount[2])
    return found or None


WHY = Page(name="why", title="Why?", paths=("/why",), make=why)
