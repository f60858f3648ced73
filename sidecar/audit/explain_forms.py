"""An explanation as lines of text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sidecar.audit.forms import shown, text_table
from sidecar.audit.moments import moment_in, seconds_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def lines_of(report: Mapping[str, Any], line: Mapping[str, Any] | None) -> list[str]:
    """*report* is as its JSON, with `words` of each fact; *line* is that of the log, if there is one."""
    question, verdict = report["question"], report["verdict"]
    says = "may" if verdict["allow"] else "may not"
    detail = f" ({verdict['detail']})" if verdict["detail"] else ""
    asked = f"{question['user']} {says} {question['action']} in {question['workspace']}"
    lines = [f"{asked}: {verdict['http_status']} {verdict['reason']}{detail}"]
    if line is not None:
        lines.append(
            f"decision {report['decision_id']}, {line['at']}, asked by caller {line.get('caller')},"
            f" revision {report['made']['revision']}"
        )
    else:
        when = f"at {report['made']['as_of']}: quotas are not looked at" if report["made"]["as_of"] else "now"
        lines.append(f"{when}, revision {report['made']['revision']}")
    facts = [[words, *_known(fact)] for fact, words in zip(report["facts"], report["words"], strict=True)]
    situation = json.dumps(report["situation"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    rules = [
        ["DENIES" if rule["denies"] else "passes", rule["code"], rule["why"], ", ".join(rule["places"])]
        for rule in report["rules"]
    ]
    lines = [
        *map(shown, lines),
        "",
        *_part("facts", text_table(facts)),
        f"situation   {shown(situation)}",
        *_part("rules", text_table(rules)),
        *_help(report),
    ]
    if report["same"] is not None:
        same = "the same verdict, byte for byte" if report["same"] else "ANOTHER VERDICT than the line has"
        lines.append(f"the same situation asked again: {same}")
    return lines


def _help(report: Mapping[str, Any]) -> list[str]:
    if report["verdict"]["allow"]:
        return []
    if not report["would_help"]:
        return ["no change of role, plan, status, override or room would help"]
    table = [_helping(each, plans, report) for each, plans in _by_plan(report["would_help"])]
    return ["it would be granted with one of", *text_table(table, indent=" " * 12)]


def _by_plan(helps: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Those that differ in the plan alone together: the first of them, and all."""
    found: dict[str, list[dict[str, Any]]] = {}
    for each in helps:
        rest = {name: value for name, value in each.items() if name not in {"plan", "price"}}
        found.setdefault(json.dumps([rest, "plan" in each]), []).append(each)
    for alike in found.values():
        yield alike[0], alike


def _helping(first: dict[str, Any], alike: list[dict[str, Any]], report: Mapping[str, Any]) -> list[str]:
    words, notes = [], []
    if "role" in first:
        words.append(f"role {first['role']}")
        if first["role"] == "owner":
            notes.append("by a transfer of the ownership")
    if "plan" in first:
        words.append(f"plan {' or '.join(each['plan'] for each in alike)}")
        price = first["price"]
        amounts = " or ".join(str(each["price"]["amount"]) for each in alike)
        if price["currency"]:
            notes.append(f"{amounts} {price['currency']} a {price['per']}")
    if "status" in first:
        words.append(f"status {first['status']}")
    for feature, value in first.get("override", {}).items():
        words.append(f"override {feature} {({True: 'on', False: 'off'}).get(value, 'taken away')}")
        notes.append(f"PUT /v1/workspaces/{report['question']['workspace']}/overrides")
    if "room" in first:
        words.append(f"room in {', '.join(first['room'])}")
    return [" and ".join(words), ", ".join(notes)]


def _known(fact: Mapping[str, Any]) -> list[str]:
    if fact["in_history"] is False:
        return ["not in the history", "", ""]
    if fact["event"] is None:
        return ["", "", ""]
    by = "found" if fact["by"]["kind"] == "found" else f"{fact['by']['kind']} {fact['by']['name']}"
    since = moment_in(fact["since"])
    return [f"since {seconds_text(since)}" if since else "", by, f"outbox {fact['event']}"]


def _part(name: str, lines: list[str]) -> list[str]:
    return [f"{name if number == 0 else '':<12}{line}" for number, line in enumerate(lines)]
