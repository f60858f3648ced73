"""The whole application over a real database, asked by end users with real tokens."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
from werkzeug.test import Client

from sidecar.api.authzen.domain import Authzen
from sidecar.api.authzen.workspaces import Workspaces
from sidecar.api.service import Readiness, Service
from sidecar.catalog.routes import Routes
from sidecar.decisions.authorizer import Authorizer
from sidecar.identity.callers import Caller, Callers
from sidecar.identity.users import FixedKeys, Identities, key_set_of_secret
from sidecar.quota.decider import Decider
from sidecar.quota.spending import Spending
from sidecar.serving.application import Application
from sidecar.store.ledger import PostgresLedger
from sidecar.store.names import Names
from sidecar.store.people import PostgresPeople
from sidecar.store.postgres import PostgresFacts
from sidecar.store.workspaces import WorkspaceStore
from sidecar.telemetry.metrics import Metrics
from sidecar.workspaces.administration import Administration
from sidecar.workspaces.invitations import Invitations
from sidecar.workspaces.people import People
from tests.api.stage import OPS, TOKENS, Lines, PolicyInPython
from tests.identity.provider import AUDIENCE, SECRET, a_token
from tests.values import the_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.api.service import Stripe

PATIENT_S = 30.0
PORTAL = "portal-token"
CALLERS = {**TOKENS, PORTAL: Caller(name="portal", scopes=frozenset({"people"}))}
IDENTITIES = Identities(FixedKeys(key_set_of_secret(SECRET.encode())), audience=AUDIENCE, issuer=None)


@dataclass
class Stage:
    """*lines* are the decision log; *url* is the database's."""

    client: Client
    service: Service
    engine: Any
    lines: Lines
    url: str

    def ask(self, user: str, method: str, path: str, body=None, *, email=None, headers=(), **claims):
        """As *user*, whose verified e-mail is <user>@example.com unless *email* says otherwise."""
        token = a_token(sub=user, email=email or f"{user}@example.com", iss=None, **claims)
        return self.client.open(
            path, method=method, json=body, headers={"Authorization": f"Bearer {token}", **dict(headers)}
        )

    def get(self, user, path, **more):
        return self.ask(user, "GET", path, **more)

    def post(self, user, path, body=None, **more):
        return self.ask(user, "POST", path, body, **more)

    def patch(self, user, path, body=None, **more):
        return self.ask(user, "PATCH", path, body, **more)

    def delete(self, user, path, **more):
        return self.ask(user, "DELETE", path, **more)

    def admin(self, path, body):
        return self.client.put(path, json=body, headers={"Authorization": f"Bearer {OPS}"})

    def plan(self, workspace, plan):
        assert self.admin(f"/v1/workspaces/{workspace}/plan", {"plan": plan}).status_code == 200

    def invited(self, by, workspace, email, role="member") -> Any:
        answer = self.post(by, f"/workspaces/{workspace}/invite", {"email": email, "role": role})
        assert answer.status_code == 201, answer.text
        return answer.json

    def accept(self, user, token, **more):
        return self.post(user, "/invitations/accept", {"token": token}, **more)

    def workspace(self, plan="team", *, owner=None, members=None, slug: str | None = None) -> str:
        """The slug of a new one; its owner is called after it."""
        slug = slug or f"w-{uuid4().hex[:12]}"
        people = {owner or f"{slug}-owner": "owner", **(members or {})}
        self.rows(
            """WITH made AS (
                INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES (%(slug)s, %(slug)s, %(plan)s)
                RETURNING id
            ) INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
            SELECT made.id, p.* FROM made, unnest(%(users)s::text[], %(roles)s::text[]) AS p""",
            slug=slug,
            plan=plan,
            users=list(people),
            roles=list(people.values()),
        )
        return slug

    def rows(self, query, *params, **named) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), named or params)
            return cursor.fetchall() if cursor.description else []

    def roles(self, workspace) -> dict[str, str]:
        return dict(
            self.rows(
                """SELECT m.user_id, m.role FROM authz.workspace_memberships AS m
                JOIN authz.workspaces AS w ON w.id = m.workspace_id WHERE w.slug = %s ORDER BY 1""",
                workspace,
            )
        )

    def outbox(self, workspace, after=0) -> list[tuple[str, str, str, Any]]:
        """Of who, what and which."""
        return self.rows(
            """SELECT o.actor, o.actor_kind, o.kind, o.data FROM authz.outbox AS o
            JOIN authz.workspaces AS w ON w.id = o.workspace_id
            WHERE w.slug = %s AND o.id > %s ORDER BY o.id""",
            workspace,
            after,
        )

    def newest(self) -> int:
        [(newest,)] = self.rows("SELECT COALESCE(max(id), 0) FROM authz.outbox")
        return int(newest)


@contextmanager
def a_people_stage(
    url: str,
    *,
    catalog=None,
    engine=None,
    identities=IDENTITIES,
    pool_size: int = 8,
    revision: str | None = None,
    stripe: Stripe | None = None,
) -> Iterator[Stage]:
    names = Names(revision)
    catalog = catalog or the_catalog()
    metrics, lines = Metrics(engine="embedded", revision="r1"), Lines()
    engine = PolicyInPython(catalog) if engine is None else engine
    facts = PostgresFacts(
        url, catalog=catalog, pool_size=pool_size, statement_timeout_s=PATIENT_S, names=names
    )
    workspaces = WorkspaceStore(url, pool_size=pool_size, lock_timeout_s=PATIENT_S, names=names)
    authorizer = Authorizer(
        catalog=catalog,
        context_fields=frozenset(),
        policy=engine,
        facts=facts,
    )
    spending = Spending(authorizer, ledger=PostgresLedger(facts.connections, catalog=catalog, names=names))
    store = PostgresPeople(reads=facts.connections, changes=workspaces.connections, names=names)
    service = Service(
        authorizer=authorizer,
        spending=spending,
        decider=Decider(authorizer, spending),
        routes=Routes(catalog.routes),
        people=People(authorizer, store=store),
        invitations=Invitations(authorizer, store=store),
        administration=Administration(catalog, store=workspaces),
        callers=Callers(
            {__import__("hashlib").sha256(token.encode()).hexdigest(): who for token, who in CALLERS.items()}
        ),
        identities=identities,
        metrics=metrics,
        log=lines,  # type: ignore[arg-type] # plays its part
        authzen=Authzen(domain=Workspaces(authorizer, metrics=metrics)),
        own_hosts=frozenset(),
        deadline_s=PATIENT_S,
        bundle=lambda: b"bundle",
        readiness=lambda: Readiness(ready=True, without_database=True, parts={}),
        status=dict,
        serving=lambda: True,
        stripe=stripe,
    )
    facts.open()
    workspaces.open()
    try:
        yield Stage(Client(Application(service)), service, engine, lines, url)
    finally:
        facts.close()
        workspaces.close()
