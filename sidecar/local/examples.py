"""Questions to print when `sidecar dev` has started: only such as are answered as they say."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Answer = dict[str, Any]
    Ask = Callable[[str, str, str], Answer]  # user, workspace and action

_MOST_ASKED = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    says: str
    user: str
    workspace: str
    action: str
    answer: Answer


# What is true of the demo, each with the reason that makes it so.
_DEMO = (
    ("adam may start a team session at Acme", "granted", ("adam", "acme", "team_sessions.start")),
    ("zoe is a stranger there", "not_a_member", ("zoe", "acme", "platform.use")),
    (
        "sam's plan has no video avatar: payment required",
        "feature_not_in_plan",
        ("sam", "solo", "roleplay.start_with_avatar"),
    ),
)


def examples(ask: Ask, *, members: Sequence[tuple[str, str]], actions: Sequence[str]) -> list[Example]:
    """The demo's if all of them are true here, else some of *members*, each a workspace and a user in it."""
    demo = [(says, reason, asked, ask(*asked)) for says, reason, asked in _DEMO]
    if all(answer.get("reason") == reason for _, reason, _, answer in demo):
        return [_example(says, asked, answer) for says, _, asked, answer in demo]
    return list(_found(ask, members, actions))


def _found(ask: Ask, members: Sequence[tuple[str, str]], actions: Sequence[str]) -> Iterator[Example]:
    """Somebody who may, a stranger, and somebody who may not: best, whom another plan would help."""
    if not members:
        asked = ("adam", "acme", actions[0])
        yield _example("nobody is in a workspace yet: load some with --world", asked, ask(*asked))
        return
    granted: Example | None = None
    denied: Example | None = None
    for (workspace, user), action in islice(product(members, actions), _MOST_ASKED):
        asked = (user, workspace, action)
        answer = ask(*asked)
        if answer.get("allow") is True:
            granted = granted or _example(f"{user} may do {action} in {workspace}", asked, answer)
        elif answer.get("allow") is False and (
            denied is None or ("upgrade" in answer and not _sells(denied))
        ):
            denied = _example(f"{user} may not do {action} in {workspace}", asked, answer)
        if granted and denied and _sells(denied):
            break
    if granted:
        yield granted
    workspace = members[0][0]
    there = {user for slug, user in members if slug == workspace}
    others = [user for _, user in members if user not in there]
    asked = (next(iter(others), "a-stranger"), workspace, actions[0])
    if (answer := ask(*asked)).get("reason") == "not_a_member":
        yield _example(f"{asked[0]} is a stranger in {workspace}", asked, answer)
    if denied:
        yield denied


def _sells(example: Example) -> bool:
    return "upgrade" in example.answer


def _example(says: str, asked: tuple[str, str, str], answer: Answer) -> Example:
    user, workspace, action = asked
    return Example(says=says, user=user, workspace=workspace, action=action, answer=answer)
