"""What endpoints call upon: the collaborators of one worker, and how long a request may take with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.api.authzen.domain import Authzen
    from sidecar.api.masking import Masks
    from sidecar.api.request import Request
    from sidecar.catalog.routes import Routes
    from sidecar.decisions.authorizer import Authorizer
    from sidecar.identity.callers import Callers
    from sidecar.identity.users import Identities
    from sidecar.quota.decider import Decider
    from sidecar.quota.spending import Spending
    from sidecar.telemetry.decision_log import DecisionLog
    from sidecar.telemetry.metrics import Metrics
    from sidecar.workspaces.administration import Administration
    from sidecar.workspaces.invitations import Invitations
    from sidecar.workspaces.people import People

PER_QUESTION_S = 0.002  # what each further question of one request adds to its deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether a worker can answer; *without_database*: that it could, were the database there (again).

    *parts*: what the worker and the database say of themselves.
    """

    ready: bool
    without_database: bool
    parts: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stripe:
    """What is taken of Stripe: what is signed, of one mode.

    *require_signed* takes a body and its header Stripe-Signature; SignatureInvalid.
    """

    require_signed: Callable[[bytes, str | None], None]
    livemode: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the endpoints need; a worker builds it once.

    *identities* is None where no end user can prove who they are: nothing is served to them. *own_hosts* are
    the hosts and ports at which the sidecar itself is asked. *bundle* gives OPA's. *status* is what
    `GET /statusz` says. *serving* is false until
    every verdict is in the memo. *catalog* is the digest of plans.yaml that lines of the log have; *masks* is
    None where they hide nothing; with *skips_grants* they leave out granted checks. *cors_origins* are as in
    `Cors`. *stripe* is None where no event of Stripe can be verified: none is served.
    """

    authorizer: Authorizer
    spending: Spending
    decider: Decider
    people: People
    invitations: Invitations
    routes: Routes
    administration: Administration
    callers: Callers
    identities: Identities | None
    metrics: Metrics
    log: DecisionLog
    authzen: Authzen
    own_hosts: frozenset[tuple[str, int]]
    deadline_s: float
    bundle: Callable[[], bytes]
    readiness: Callable[[], Readiness]
    status: Callable[[], Mapping[str, object]]
    serving: Callable[[], bool]
    catalog: bytes = b""
    masks: Masks | None = None
    skips_grants: bool = False
    cors_origins: tuple[str, ...] = ()
    stripe: Stripe | None = None


def deadline_of(service: Service, request: Request, *, questions: int = 1) -> float:
    within_s = min(service.deadline_s + (questions - 1) * PER_QUESTION_S, request.patience_s)
    return request.began + within_s
