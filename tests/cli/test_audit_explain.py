"""`sidecar audit explain`: each reason with its facts and rules, and changes that really help."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest

from sidecar.api.rendered import outcome_of
from sidecar.decisions.authorizer import Authorizer
from sidecar.engines.installed import embedded_engine
from sidecar.rego.load import compiled_at
from sidecar.store.postgres import PostgresFacts
from tests.cli.a_company import audit, company
from tests.values import FAR_AWAY, a_question

__all__ = ["audit", "company"]

RULE = """package custom

denials contains "no_deletion" if {
	input.action == "workspace.delete"
	input.plan == "team"
}
"""


@dataclass(frozen=True, kw_only=True)
class State:
    """All that decides about mia in acme; *role* None: no member."""

    role: str | None = "member"
    plan: str = "team"
    status: str = "active"
    features: dict[str, bool] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)

    def put(self, company):
        acme = company.id_of("acme")
        of = f"WHERE workspace_id = '{acme}'"
        company.do(
            f"DELETE FROM authz.workspace_memberships {of} AND user_id = 'mia'",
            f"UPDATE authz.workspace_memberships SET role = 'admin' {of} AND role = 'owner'",
            f"UPDATE authz.workspace_memberships SET role = 'owner' {of} AND user_id = 'olivia'"
            f" AND {self.role != 'owner'}",
            "INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)"
            f" SELECT '{acme}', 'mia', '{self.role}' WHERE {self.role is not None}",
            f"UPDATE authz.workspaces SET plan_tier = '{self.plan}', status = '{self.status}'"
            f" WHERE id = '{acme}'",
            f"DELETE FROM authz.workspace_features {of}",
            f"DELETE FROM authz.workspace_usage {of}",
            f"SELECT authz.set_overrides('acme', '{json.dumps(self.features)}', '{json.dumps(self.limits)}',"
            " NULL, 'for a test')",
            *(
                "INSERT INTO authz.workspace_usage (workspace_id, meter, period_start, used)"
                f" SELECT '{acme}', '{meter}', p.starts, {used} FROM authz.meters AS t, LATERAL"
                f" authz.period_at(t.per, 'epoch', now()) AS p WHERE t.name = '{meter}'"
                for meter, used in self.used.items()
            ),
            by="olivia",
        )

    def changed(self, helping):
        """With *helping* done: room is made by taking back what is used, else by a limit."""
        features = dict(self.features)
        for feature, value in helping.get("override", {}).items():
            features.pop(feature, None)
            if value is not None:
                features[feature] = value
        room = helping.get("room", [])
        return replace(
            self,
            role=helping.get("role", self.role),
            plan=helping.get("plan", self.plan),
            status=helping.get("status", self.status),
            features=features,
            limits=dict.fromkeys(room, 10_000) | {k: v for k, v in self.limits.items() if k not in room},
        )


# What is asked, in which state, and what is answered: every reason there is.
REASONS = {
    "not_a_member": ("analytics.view", State(role=None), 403),
    "not_a_member and more": ("team_analytics.view", State(role=None, status="suspended", plan="pro"), 403),
    "workspace_suspended": ("platform.use", State(status="suspended"), 403),
    "role_insufficient": ("members.remove", State(), 403),
    "feature_not_in_plan": ("analytics.view", State(plan="starter"), 402),
    "feature_not_in_plan by an override": ("analytics.view", State(features={"analytics": False}), 403),
    "quota_exceeded": ("recording.start", State(plan="starter", used={"minutes": 100}), 402),
    "quota_exceeded until the month ends": ("recording.start", State(used={"minutes": 1000}), 429),
    "quota_exceeded by a limit of its own": ("scenarios.create", State(limits={"scenarios": 0}), 403),
    "denied_by_policy": ("workspace.delete", State(role="owner"), 403),
    "granted": ("platform.use", State(), 200),
}


@pytest.fixture(name="authorizer")
def the_authorizer(company):
    (company.folder / "policies/custom/no_deletion.rego").write_text(RULE)
    company.publish()
    compiled = compiled_at(company.folder / "plans.yaml", company.folder / "policies")
    store = PostgresFacts(company.url, catalog=compiled.catalog, pool_size=1)
    store.open()
    yield Authorizer(
        catalog=compiled.catalog, context_fields=frozenset(), policy=embedded_engine(compiled), facts=store
    )
    store.close()


def decided(authorizer, action, **more):
    return authorizer.decide(a_question(action, user="mia", **more), deadline=FAR_AWAY)


def line_of(decision, action, *, version=1, own=(), **more):
    """As the decision log has it."""
    line = {"at": decision.at.isoformat().replace("+00:00", "Z"), "caller": "dev", "user": "mia"}
    line |= {
        "workspace": "acme",
        "action": action,
        "amounts": None,
        **json.loads(json.dumps(outcome_of(decision), default=str)),
    }
    line["situation"] = json.loads(decision.situation)
    line["facts_at"] = line["at"]
    if version == 1:
        line |= {
            "v": 1,
            "kind": "decision",
            "workspace_id": decision.workspace_id and str(decision.workspace_id),
        }
        line["limits"] = {
            meter: {
                "limit": quota.limit,
                "of": "override" if meter in own else "plan",
                "used": quota.used,
                "reserved": quota.reserved,
            }
            for meter, quota in (decision.quota or {}).items()
        }
    return line | more


def asked(audit, *arguments):
    code, out, err = audit("explain", *arguments, "--json")
    assert code in {0, 1}, err
    return code, json.loads(out)


def asked_of_mia(audit, action, *more):
    return asked(audit, "--user", "mia", "--workspace", "acme", "--action", action, *more)[1]


@pytest.mark.parametrize("case", REASONS)
def test_every_reason_is_explained_and_each_change_that_would_help_does(audit, company, authorizer, case):
    action, state, status = REASONS[case]
    state.put(company)
    decision = decided(authorizer, action)
    assert (decision.verdict.reason, decision.verdict.status) == (case.split()[0], status)
    (company.folder / "log.jsonl").write_text(json.dumps(line_of(decision, action, own=state.limits)) + "\n")

    code, report = asked(audit, decision.decision_id, "--log", "log.jsonl")
    now = asked_of_mia(audit, action)

    assert (code, report["same"], now["same"]) == (0, True, None)
    assert report["verdict"] == now["verdict"]
    assert report["situation"] == now["situation"] == json.loads(decision.situation)
    rules = {rule["code"]: rule["denies"] for rule in now["rules"]}
    reason = decision.verdict.reason
    assert [code for code, denies in rules.items() if denies][:1] == ([reason] if reason != "granted" else [])
    assert all(rule["places"] for rule in now["rules"])
    assert report["would_help"] == now["would_help"]
    assert bool(now["would_help"]) is (reason != "granted")
    assert {fact["in_history"] for fact in now["facts"]} <= {True, None}
    for helping in now["would_help"]:
        state.changed(helping).put(company)
        assert decided(authorizer, action).allowed, helping


def test_several_changes_are_told_where_one_is_not_enough(audit, company, authorizer):
    State(plan="starter", status="suspended").put(company)

    helps = asked_of_mia(audit, "team_analytics.view")["would_help"]

    price = {"amount": 299, "currency": "EUR", "per": "month"}
    assert helps == [
        {"role": role, "plan": "team", "status": "active", "price": price} for role in ("admin", "owner")
    ] + [
        {"role": role, "status": "active", "override": {"team_analytics": True}}
        for role in ("admin", "owner")
    ]


def test_room_is_told_by_figures(audit, company, authorizer):
    State(limits={"minutes": 10}, used={"minutes": 8}).put(company)

    report = asked_of_mia(audit, "recording.start", "--amounts", "minutes=5")

    assert report["would_help"] == [{"room": ["minutes"]}]
    (fact,) = [fact for fact in report["facts"] if fact["what"] == "minutes"]
    assert fact["value"] == {"wanted": 5, "limit": 10, "of": "override", "used": 8, "reserved": 0}


def test_facts_are_told_with_when_and_by_whom_and_what_no_history_tells_is_marked(audit, company, authorizer):
    State().put(company)
    company.unseen("UPDATE authz.workspaces SET plan_tier = 'pro' WHERE slug = 'acme'")

    facts = {fact["what"]: fact for fact in asked_of_mia(audit, "analytics.view")["facts"]}

    assert (facts["role"]["value"], facts["role"]["in_history"]) == ("member", True)
    assert facts["role"]["by"] == {"kind": "user", "name": "olivia"}
    assert company.rows(f"SELECT kind FROM authz.outbox WHERE id = {facts['role']['event']}") == [
        ("member.joined",)
    ]
    assert facts["plan"] == {
        "what": "plan",
        "value": "pro",
        "since": None,
        "by": None,
        "event": None,
        "in_history": False,
    }
    assert facts["status"]["in_history"] is True


def test_a_line_without_figures_is_explained_by_its_room(audit, company, authorizer):
    State(plan="starter", used={"minutes": 100}).put(company)
    decision = decided(authorizer, "recording.start")
    (company.folder / "log.jsonl").write_text(
        json.dumps(line_of(decision, "recording.start", version=0)) + "\n"
    )

    _, report = asked(audit, decision.decision_id, "--log", "log.jsonl")

    assert [list(each) for each in report["would_help"]] == [["plan", "price"], ["plan", "price"], ["room"]]


def test_a_line_that_says_otherwise_than_its_policy_is_found(audit, company, authorizer):
    State().put(company)
    decision = decided(authorizer, "members.remove")
    line = line_of(decision, "members.remove", allow=True, reason="granted", status=200)
    (company.folder / "log.jsonl").write_text(json.dumps(line) + "\n")

    code, report = asked(audit, decision.decision_id, "--log", "log.jsonl")

    assert (code, report["same"]) == (1, False)


def test_a_line_is_explained_by_the_policy_that_ruled(audit, company, authorizer):
    State(plan="starter").put(company)
    decision = decided(authorizer, "analytics.view")
    (company.folder / "log.jsonl").write_text(json.dumps(line_of(decision, "analytics.view")) + "\n")
    company.edit("plans.yaml", "features: [scenario_builder]", "features: [scenario_builder, analytics]")
    company.publish()

    code, report = asked(audit, decision.decision_id, "--log", "log.jsonl")

    assert (code, report["verdict"]["reason"]) == (0, "feature_not_in_plan")
    assert report["made"]["revision"] == decision.verdict.revision
    assert asked_of_mia(audit, "analytics.view")["verdict"]["allow"]


def test_then_the_facts_and_the_policy_of_then_are_told(audit, company, authorizer):
    State().put(company)
    ((before,),) = company.rows("SELECT to_json(clock_timestamp() AT TIME ZONE 'UTC') #>> '{}'")
    State(role="admin").put(company)

    then = asked_of_mia(audit, "members.remove", "--at", f"{before}Z")

    assert then["verdict"]["reason"] == "role_insufficient"
    assert asked_of_mia(audit, "members.remove")["verdict"]["allow"]


def test_in_words(audit, company, authorizer):
    State(plan="starter").put(company)

    _, out, _ = audit("explain", "--user", "mia", "--workspace", "acme", "--action", "analytics.view")

    lines = out.splitlines()
    assert lines[0] == "mia may not analytics.view in acme: 402 feature_not_in_plan"
    assert any(line.startswith("facts       mia is member of acme ") for line in lines)
    (denies,) = [line for line in lines if "DENIES" in line]
    assert "starter has not analytics" in denies
    assert "policies/authz/denials.rego:" in denies
    assert "plans.yaml:" in denies
    assert lines[-2].split() == ["plan", "pro", "or", "team", "149", "or", "299", "EUR", "a", "month"]
    assert "override analytics on" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name a DECISION_ID and its --log"),
        (("d",), "goes with --log"),
        (("d", "--log", "log.jsonl"), "none of 1 lines in log.jsonl is of decision d"),
        (("masked", "--log", "log.jsonl"), "has no situation or no revision"),
        (
            ("--user", "mia", "--workspace", "acme", "--action", "analytics.vew"),
            'did you mean "analytics.view"?',
        ),
        (("--user", "mia", "--workspace", "acm", "--action", "analytics.view"), 'did you mean "acme"?'),
    ],
)
def test_bad_input_is_told_with_exit_code_2(audit, company, arguments, says):
    line = {"decision_id": "masked", "action": "a", "situation_sha256": "0"}
    (company.folder / "log.jsonl").write_text(json.dumps(line) + "\n")

    code, out, err = audit("explain", *arguments)

    assert (code, out) == (2, "")
    assert says in err


@pytest.mark.parametrize("situation", [{}, {"action": []}, {"action": "platform.use", "status": 1}])
def test_a_line_that_no_sidecar_writes_is_told(audit, company, situation):
    line = {"decision_id": "d", "action": "a", "situation": situation, "policy_revision": company.publish()}
    (company.folder / "log.jsonl").write_text(json.dumps(line | {"at": "2026-11-01T00:00:00Z"}) + "\n")

    code, out, err = audit("explain", "d", "--log", "log.jsonl")

    assert (code, out) == (2, "")
    assert "the line of decision d is not as a sidecar writes it" in err


def test_a_revision_that_is_nowhere_kept_is_told(audit, company):
    line = {"decision_id": "d", "action": "a", "situation": {}, "policy_revision": "0" * 32}
    (company.folder / "log.jsonl").write_text(json.dumps(line) + "\n")

    code, out, err = audit("explain", "d", "--log", "log.jsonl")

    assert (code, out) == (78, "")
    assert f"revision {'0' * 32} was never published" in err
