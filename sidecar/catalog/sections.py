"""The structure of plans.yaml as shapes: both the check and the editors' schema are made from it."""

from __future__ import annotations

from sidecar.catalog.billing import BILLING, SOLD_AS
from sidecar.catalog.invariants import INVARIANT
from sidecar.catalog.shape import Field, Flag, Line, ListOf, MapOf, Record, Reference, Whole, Words

HIGHEST = 10**12
MOST_KINDS = 100  # of roles, of plans and of meters

_NAME = Line(
    pattern=r"[a-z][a-z0-9_-]{0,63}",
    says="a name of lower-case letters, digits, _ and -, at most 64, a letter first",
    code="bad_name",
)
_ACTION_NAME = Line(
    pattern=r"(?=.{1,128}$)[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)*",
    says="a name like documents.create: lower-case letters, digits, _ and - between dots, at most 128",
    code="bad_name",
)
_SHORT_TEXT = Line(pattern=r"(?=.*\S).{1,120}", says="text on one line, at most 120 characters")
_TITLE = Field(shape=_SHORT_TEXT, says="What people read; if absent, the name with a capital letter.")
_RENAMED = "The name that it had in the catalog before: `sidecar migrate` carries its rows along."
_RENAMED_FROM = Field(shape=_NAME, says=_RENAMED)

_SEGMENT = r"\{[a-z][a-z0-9_]*\}"
_PATH = Line(
    pattern=rf"/|(/({_SEGMENT}|[A-Za-z0-9._~!$&'()*+,;=:@%-]+))+/?",
    says="a path like /workspaces/{workspace}/members",
    code="bad_path",
)
_HOST = Line(
    pattern=r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*",
    says="a host name in lower case, without a port",
)

_ROLE = Record(
    fields={
        "title": _TITLE,
        "renamed_from": _RENAMED_FROM,
        "includes": Field(
            shape=ListOf(
                item=Reference(kind="role", verb="includes"),
                says="the name of a role, or a list",
                or_one=True,
            ),
            says="The role or roles whose rights this one has too.",
        ),
    },
    or_nothing=True,
)
_FEATURE = Record(fields={"title": _TITLE, "renamed_from": _RENAMED_FROM}, or_nothing=True)
_METER = Record(
    fields={
        "title": _TITLE,
        "renamed_from": _RENAMED_FROM,
        "kind": Field(
            shape=Words(words=("counter", "level")),
            says="counter: used up, and back each period. level: things that exist and can be given back.",
        ),
        "per": Field(shape=Words(words=("month", "day", "ever")), says="When a counter begins anew."),
        "anchor": Field(
            shape=Words(words=("calendar", "subscription")),
            says="Where a counter's month begins: on the 1st in UTC, or on the workspace's own billing day.",
        ),
        "counts": Field(
            shape=Words(words=("members", "owned")),
            says="What the database counts itself. members: memberships and open invitations. owned: the"
            " workspaces that the asking user owns.",
        ),
    },
    says="a mapping with kind",
)
_PLAN = Record(
    fields={
        "title": _TITLE,
        "renamed_from": _RENAMED_FROM,
        "extends": Field(
            shape=Reference(kind="plan", verb="extends"),
            says="The plan whose features and limits this one has too.",
        ),
        "price": Field(
            shape=Whole(low=0, high=HIGHEST, code="bad_price"),
            says="A month, in the currency.",
            required=True,
        ),
        "sold": Field(shape=Flag(), says="false: workspaces that have it keep it, and nobody is offered it."),
        "sold_as": Field(shape=SOLD_AS, says="What a biller calls this plan."),
        "features": Field(
            shape=ListOf(item=Reference(kind="feature", verb="has the feature"), says="a list of features"),
            says="What this plan has beyond what it extends.",
        ),
        "limits": Field(
            shape=MapOf(
                key=Reference(kind="meter", verb="limits"),
                value=Whole(low=0, high=HIGHEST, word="unlimited", code="bad_limit"),
                says="a mapping of meters to limits",
                noun="limit",
            ),
            says="For each meter a number or unlimited; what is absent is inherited.",
        ),
    },
    says="a mapping with price",
)
_ACTION = Record(
    fields={
        "title": _TITLE,
        "renamed_from": Field(shape=_ACTION_NAME, says=_RENAMED),
        "role": Field(
            shape=Reference(kind="role", verb="is for the role"),
            says="The least role that may: whichever includes it may too.",
        ),
        "roles": Field(
            shape=ListOf(
                item=Reference(kind="role", verb="is for the role"), says="a list of roles", least=1
            ),
            says="Exactly the roles that may.",
        ),
        "feature": Field(
            shape=Reference(kind="feature", verb="needs the feature"),
            says="What the plan must have, or the workspace's override.",
        ),
        "takes": Field(
            shape=MapOf(
                key=Reference(kind="meter", verb="takes"),
                value=Whole(low=1, high=HIGHEST),
                says="a mapping of meters to numbers",
                noun="amount",
            ),
            says="What one performance takes of each meter, if the caller does not say.",
        ),
        "while_suspended": Field(shape=Flag(), says="true: works in a suspended workspace too."),
    },
    says="a mapping with role or roles",
    one_of=(("role", "roles"),),
)
_HEADER = Line(pattern=r"[A-Za-z0-9-]{1,64}", says="the name of a header")
_SOURCE = Record(
    fields={
        "claim": Field(shape=_SHORT_TEXT, says="A claim of the bearer token."),
        "path": Field(shape=_SHORT_TEXT, says="A {segment} of the path."),
        "header": Field(shape=_HEADER, says="A request header."),
    },
    says="a mapping like {header: X-Workspace-Id}",
    one_of=(("claim", "path", "header"),),
)
_ROUTE = Record(
    fields={
        "method": Field(
            shape=Words(words=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")), required=True
        ),
        "path": Field(shape=_PATH, required=True),
        "host": Field(shape=_HOST, says="If absent, any host."),
        "action": Field(shape=Reference(kind="action", verb="asks for the action"), required=True),
        "user": Field(shape=_SOURCE, says="Where the user is; if absent, {claim: sub}."),
        "workspace": Field(shape=_SOURCE, says="Where the workspace is; if absent, {path: workspace}."),
        "mode": Field(shape=Words(words=("check", "consume")), says="If absent, check: nothing is taken."),
        "once_per": Field(
            shape=_HEADER,
            says="With mode consume: the header by which a repeat is known, which takes nothing more.",
        ),
        "ratelimit": Field(shape=Flag(), says="The answer tells the limits, as RateLimit header fields."),
    },
    says="a mapping with method, path and action",
)

PLANS_FILE = Record(
    fields={
        "version": Field(
            shape=Whole(low=1, high=1, code="bad_version"), says="Of this format.", required=True
        ),
        "currency": Field(
            shape=Line(pattern=r"[A-Z]{3}", says="three capital letters, like EUR"),
            says="Of every price.",
            required=True,
        ),
        "default_plan": Field(
            shape=Reference(kind="plan", verb="has the default plan"),
            says="The plan of a workspace that a signup makes.",
            required=True,
        ),
        "roles": Field(
            shape=MapOf(
                key=_NAME, value=_ROLE, says="a mapping of roles", noun="role", least=1, most=MOST_KINDS
            ),
            required=True,
        ),
        "features": Field(
            shape=MapOf(
                key=_NAME,
                value=_FEATURE,
                says="a mapping of features",
                noun="feature",
                reserved=("plan", "role"),
            ),
            says="What a plan has or has not.",
        ),
        "meters": Field(
            shape=MapOf(key=_NAME, value=_METER, says="a mapping of meters", noun="meter", most=MOST_KINDS),
            says="What is counted and limited.",
        ),
        "plans": Field(
            shape=MapOf(
                key=_NAME, value=_PLAN, says="a mapping of plans", noun="plan", least=1, most=MOST_KINDS
            ),
            required=True,
        ),
        "billing": Field(shape=BILLING, says="What each status of a subscription means."),
        "actions": Field(
            shape=MapOf(key=_ACTION_NAME, value=_ACTION, says="a mapping of actions", noun="action"),
            says="What somebody may or may not do.",
        ),
        "routes": Field(
            shape=ListOf(item=_ROUTE, says="a list of routes", noun="route", unique=False),
            says="For gateways: which action a request asks for.",
        ),
        "invariants": Field(
            shape=ListOf(item=INVARIANT, says="a list of invariants", noun="invariant", unique=False),
            says="Promises that `sidecar audit prove` holds plans and policies to.",
        ),
    },
    says="a mapping with version, currency, roles, plans and default_plan",
)
