"""Decisions of a log as another policy would have made them: the same questions, by the lines' figures."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sidecar.audit.questions import facts_somewhere, usage
from sidecar.decisions.model import Question, Room
from sidecar.decisions.room import Rooms
from sidecar.decisions.situation import situation_bytes, situation_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.audit.replay import Asked
    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Facts

_MOST_CACHED = 200_000


@dataclass(slots=True)
class Transition:
    """Decisions with one status that would have another one, or for another reason."""

    decisions: int = 0
    people: set[str] = field(default_factory=set)
    workspaces: set[str] = field(default_factory=set)


class Against:
    """*verdict_of* is asked once about equal situations; its verdict is a document."""

    def __init__(
        self,
        catalog: Catalog,
        context_fields: frozenset[str],
        verdict_of: Callable[[bytes], Mapping[str, Any]],
    ) -> None:
        self.transitions: dict[tuple[int, int], Transition] = {}
        self.decisions = self.same = 0
        self.situations = 0
        self._catalog = catalog
        self._context_fields = context_fields
        self._verdict_of = verdict_of
        self._rooms = Rooms(catalog)
        self._roles, self._plans = _names_of(catalog.roles), _names_of(catalog.plans)
        self._features, self._meters = _names_of(catalog.features), _names_of(catalog.meters)
        self._actions = _names_of(catalog.actions)
        self._verdicts: dict[bytes, Mapping[str, Any]] = {}
        self._asked: dict[tuple[object, ...], Mapping[str, Any]] = {}

    def add(self, line: Asked) -> None:
        key = (bytes(line.situation), line.action, bytes(line.amounts), bytes(line.limits))
        verdict = self._asked.get(key)
        if verdict is None:
            verdict = self._about(self._situation(line))
            if len(self._asked) >= _MOST_CACHED:
                self._asked.clear()
            self._asked[key] = verdict
        self.decisions += 1
        if self._is_same(line, verdict):
            self.same += 1
            return
        change = self.transitions.setdefault((line.status or 0, verdict["status"]), Transition())
        change.decisions += 1
        change.people.add(line.user or "")
        change.workspaces.add(line.workspace_id or line.workspace or "")

    @property
    def document(self) -> list[dict[str, int]]:
        return [
            {
                "from": before,
                "to": after,
                "decisions": each.decisions,
                "people": len(each.people),
                "workspaces": len(each.workspaces),
            }
            for (before, after), each in sorted(self.transitions.items())
        ]

    def _is_same(self, line: Asked, verdict: Mapping[str, Any]) -> bool:
        if line.status != verdict["status"] or line.reason != verdict["reason"]:
            return False
        needs, upgrade = _value_of(line.needs), _value_of(line.upgrade)
        return (
            line.detail == verdict["detail"]
            and (needs is None or self._needs_of(needs) == verdict["needs"])
            and (upgrade is None or self._plans_of(upgrade) == verdict["upgrade"])
        )

    def _needs_of(self, needs: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(needs)
        if "roles" in found:
            found["roles"] = [self._roles.get(name, name) for name in found["roles"]]
        if "feature" in found:
            found["feature"] = self._features.get(found["feature"], found["feature"])
        return found

    def _plans_of(self, plans: list[str]) -> list[str]:
        return [self._plans.get(name, name) for name in plans]

    def _about(self, situation: bytes) -> Mapping[str, Any]:
        if situation not in self._verdicts:
            if len(self._verdicts) >= _MOST_CACHED:
                self._verdicts.clear()
            self._verdicts[situation] = self._verdict_of(situation)
            self.situations += 1
        return self._verdicts[situation]

    def _situation(self, line: Asked) -> bytes:
        """As this catalog would make it of the same question and facts."""
        was = json.loads(bytes(line.situation))
        named = was.get("action") or line.action or ""
        name = self._actions.get(named, named)
        action = self._catalog.actions.get(name)
        question = Question(
            user="somebody", workspace="somewhere", action=name, context=was.get("context") or {}
        )
        facts = self._facts(was, line)
        room = None
        if facts is not None and action is not None and action.takes:
            room = self._room(was, line, facts, action.takes)
        return situation_bytes(
            situation_of(
                question, facts, catalog=self._catalog, room=room, context_fields=self._context_fields
            )
        )

    def _facts(self, was: Mapping[str, Any], line: Asked) -> Facts | None:
        """None of a stranger. What an action of this catalog takes and the line does not tell is unused."""
        if was.get("status") is None:
            return None
        figures = self._figures(line)
        features = (was.get("overrides") or {}).get("features") or {}
        return facts_somewhere(
            role=self._roles.get(was.get("role") or "", was.get("role") or ""),
            plan=self._plans.get(was.get("plan") or "", was.get("plan") or ""),
            status=was["status"],
            features={self._features.get(name, name): value for name, value in features.items()},
            limits={meter: told["limit"] for meter, told in figures.items() if told.get("of") == "override"},
            seats={meter: told["limit"] for meter, told in figures.items() if told.get("of") == "seats"},
            usage={
                meter: usage(
                    figures.get(meter, {}).get("used", 0),
                    reserved=figures.get(meter, {}).get("reserved", 0),
                )
                for meter in self._catalog.meters
            },
        )

    def _room(self, was: Mapping[str, Any], line: Asked, facts: Facts, takes: Mapping[str, int]) -> Room:
        """By the line's figures. A line of version 0 has none: then as it was."""
        if line.v == 0 and was.get("room") is not None:
            fits_in = {self._plans.get(name, name) for name in was["room"]["fits_in"]}
            plans = tuple(sorted(fits_in & self._catalog.plans.keys()))
            return Room(fits_in=plans, waiting_helps=was["room"]["waiting_helps"])
        amounts = _value_of(line.amounts) or {}
        asked = {self._meters.get(meter, meter): amount for meter, amount in amounts.items()}
        return self._rooms.room_for({meter: asked.get(meter, own) for meter, own in takes.items()}, facts)

    def _figures(self, line: Asked) -> dict[str, dict[str, Any]]:
        limits = _value_of(line.limits) or {}
        return {self._meters.get(meter, meter): told for meter, told in limits.items()}


def _value_of(text: Any) -> Any:  # noqa: ANN401 - JSON, bytes-like
    """None where there is none."""
    raw = bytes(text)
    return json.loads(raw) if raw else None


def _names_of(declared: Mapping[str, Any]) -> dict[str, str]:
    """Each former name, with what it is called now."""
    return {
        former: name
        for name, each in declared.items()
        if (former := getattr(each, "renamed_from", None)) is not None and former not in declared
    }
