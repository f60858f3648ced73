"""What a guard requires of a request, and the calls that check it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sidecar.guard.errors import BadRequest, Denied, Misconfigured, Repeated, Unauthenticated
from sidecar.guard.workspace import CurrentWorkspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sidecar.guard.answers import Decision
    from sidecar.guard.client import Client

# A value, or a function that reads it from the request.
Given: TypeAlias = Any
Amounts: TypeAlias = "Mapping[str, Given] | Callable[..., Mapping[str, int]]"

LONGEST_TEXT = 256
LONGEST_KEY = 255
MOST_AMOUNT = 10**12
UNDECLARED = "unknown_action"  # the reason of a denial that is the developer's mistake, and not the user's


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """At least one of *actions* is granted; without any, membership is enough.

    *replays* says what happens to a duplicate, whose idempotency key has taken before: ``refuse``, or ``run``
    for a view that is idempotent by itself.
    """

    actions: tuple[str, ...] = ()
    mode: Literal["check", "consume"] = "check"
    amounts: Amounts = field(default_factory=dict)
    resource: Given = None
    context: Given = None
    idempotency_key: Given = None
    replays: Literal["refuse", "run"] = "refuse"
    shows_limits: bool = False

    def __post_init__(self) -> None:
        if self.mode not in {"check", "consume"}:
            raise ValueError(
                f"mode is check or consume, got {self.mode!r}: a view reserves by `with guard.reserve(…)`"
            )
        if self.replays not in {"refuse", "run"}:
            raise ValueError(f"replays is refuse or run, got {self.replays!r}")
        for action in self.actions:
            if not isinstance(action, str):
                raise TypeError(f"an action, a role or a feature is text, got {action!r}")
        for meter, amount in self.amounts.items() if isinstance(self.amounts, Mapping) else ():
            if not callable(amount) and not _is_amount(amount):
                raise ValueError(f"{meter} is a whole number from 1 to {MOST_AMOUNT}, got {amount!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """What a framework knows of one request; *found* turns what is Given into its value."""

    client: Client
    user: str
    workspace: str
    idempotency_key: str | None
    found: Callable[[Given], Any]
    membership: str


def action(name: str, *, amounts: Amounts | None, meters: Mapping[str, Given], **more: Any) -> Requirement:  # noqa: ANN401 - the fields of Requirement
    if amounts is not None and meters:
        raise ValueError("amounts are given as a whole, or meter by meter; not both")
    return Requirement(actions=(name,), amounts=meters if amounts is None else amounts, **more)


def roles(names: Sequence[str]) -> Requirement:
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError('require_role needs the roles of which one is enough: require_role("owner", "admin")')
    return Requirement(actions=tuple(f"role:{name}" for name in names))


def feature(name: str) -> Requirement:
    if not isinstance(name, str):
        raise TypeError('require_feature needs the feature: require_feature("video_avatar")')
    return Requirement(actions=(f"feature:{name}",))


def joined(outer: Sequence[Requirement], inner: Sequence[Requirement]) -> tuple[Requirement, ...]:
    """The requirements of one view. At most one may take: its quota would be lost when another one denies."""
    both = (*outer, *inner)
    if sum(each.mode == "consume" for each in both) > 1:
        raise ValueError(
            "a view consumes once: let one action take both meters in plans.yaml, or reserve in the view"
        )
    return both


def admit(requirements: Iterable[Requirement], asker: Asker) -> CurrentWorkspace:
    """Return when all *requirements* hold; else raise a GuardError. The one that takes comes last.

    All checks together are one call. Misconfigured if one of them asks for a name that nobody declares, even
    where others deny, or one role of several would do: the mistake shows whoever sends the first request.
    """
    asking = [each for each in requirements if each.actions] or [Requirement(actions=(asker.membership,))]
    decisions: dict[str, Decision] = {}
    checks = [each for each in asking if each.mode == "check"]
    answered = _check(checks, asker)
    for answer in chain.from_iterable(answered):
        if answer.reason == UNDECLARED:
            raise Misconfigured(answer.message)
    for requirement, answers in zip(checks, answered, strict=True):
        decisions.update(zip(requirement.actions, answers, strict=True))
        _refuse_unless_one_grants(answers, requirement)
    for requirement in asking:
        if requirement.mode == "consume":
            decisions[requirement.actions[0]] = _consume(requirement, asker)
    return CurrentWorkspace(client=asker.client, user=asker.user, asked=asker.workspace, decisions=decisions)


@contextmanager
def names_declared() -> Iterator[None]:
    """Inside the block a denial of an action that plans.yaml does not declare is raised as Misconfigured."""
    try:
        yield
    except Denied as denied:
        if denied.reason == UNDECLARED:
            raise Misconfigured(denied.message) from denied
        raise


def shown(requirements: Iterable[Requirement], workspace: CurrentWorkspace) -> list[Decision]:
    """The decisions whose limits the end user's response tells."""
    return [
        workspace.decisions[action]
        for requirement in requirements
        if requirement.shows_limits
        for action in requirement.actions
    ]


def named_user(value: object) -> str:
    if value is None or value == "":
        raise Unauthenticated("the request names no user")
    if not isinstance(value, str):
        raise TypeError(f"user(…) returns text, or None where there is no user; got {value!r}")
    return value


def named_workspace(value: object) -> str:
    if value is None or value == "":
        raise BadRequest("the request names no workspace: in its path, or in X-Workspace-Id")
    return _clean(str(value), "the workspace", longest=LONGEST_TEXT)


def named_key(value: object) -> str | None:
    return None if value is None else _clean(str(value), "the Idempotency-Key", longest=LONGEST_KEY)


def the_one_of(in_path: object, in_header: str | None) -> object:
    """The workspace from path or header. BadRequest if they differ, before any call."""
    if in_path is not None and in_header is not None and str(in_path) != in_header:
        raise BadRequest("the path and X-Workspace-Id name different workspaces")
    return in_path if in_path is not None else in_header


def found_amounts(amounts: Amounts, found: Callable[[Given], Any]) -> dict[str, int]:
    given = found(amounts)
    if not isinstance(given, Mapping):
        raise BadRequest("the amounts are no mapping of meters to whole numbers")
    values = {meter: found(amount) for meter, amount in given.items()}
    for meter, amount in values.items():
        if not _is_amount(amount):
            raise BadRequest(f"{meter} must be a whole number from 1 to {MOST_AMOUNT}")
    return values


def _check(checks: Sequence[Requirement], asker: Asker) -> list[tuple[Decision, ...]]:
    questions = [
        {"action": action} | _details(requirement, asker)
        for requirement in checks
        for action in requirement.actions
    ]
    if len(questions) == 1:
        answers: tuple[Decision, ...] = (
            asker.client.check(**questions[0], user=asker.user, workspace=asker.workspace),
        )
    else:
        answers = asker.client.batch(questions, user=asker.user, workspace=asker.workspace)
    rest = iter(answers)
    return [tuple(next(rest) for _ in requirement.actions) for requirement in checks]


def _consume(requirement: Requirement, asker: Asker) -> Decision:
    key = named_key(asker.found(requirement.idempotency_key) or asker.idempotency_key)
    try:
        with names_declared():
            decision = asker.client.consume(
                requirement.actions[0],
                user=asker.user,
                workspace=asker.workspace,
                idempotency_key=key,
                **_details(requirement, asker),
            )
    except Denied as denied:
        denied.shows_limits = requirement.shows_limits
        raise
    if decision.replayed and key is not None and requirement.replays == "refuse":
        # Else a client could send one key with every request, pay for the first and be served for ever.
        raise Repeated("a request with this Idempotency-Key was carried out before")
    return decision


def _details(requirement: Requirement, asker: Asker) -> dict[str, Any]:
    details = {
        "amounts": found_amounts(requirement.amounts, asker.found) or None,
        "resource": asker.found(requirement.resource),
        "context": asker.found(requirement.context),
    }
    return {name: value for name, value in details.items() if value is not None}


def _refuse_unless_one_grants(answers: Sequence[Decision], requirement: Requirement) -> None:
    if any(answers):
        return
    # Show the lowest role that would do: of several roles, the one that most roles include.
    nearest = max(answers, key=lambda answer: len(answer.needs_roles))
    denied = Denied(nearest.status, nearest.reason, nearest.message, decision=nearest)
    denied.shows_limits = requirement.shows_limits
    raise denied


def _is_amount(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_AMOUNT


def _clean(text: str, name: str, *, longest: int) -> str:
    if len(text) > longest:
        raise BadRequest(f"{name} is longer than {longest} characters")
    if not text or "\0" in text or any("\ud800" <= each <= "\udfff" for each in text):
        raise BadRequest(f"{name} is no text that could name anything")
    return text
