"""The whole application when what it needs fails: a 503 with its code, never an answer, and no restart."""

from __future__ import annotations

from time import monotonic, sleep

import pytest

from sidecar.identity.callers import token_line
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.serving.scripted_opa import MISBEHAVIOURS, scripted_opa
from tests.serving.serving import QUESTION, serving
from tests.store.proxy import Proxy

pytestmark = pytest.mark.postgres

# Each way of asking, as (method, path, body).
READS = [
    ("POST", "/v1/authorize", QUESTION | {"context": {"ip": "10.0.0.1"}}),
    ("POST", "/v1/authorize/batch", {"questions": [QUESTION | {"context": {"ip": "10.0.0.1"}}]}),
    ("GET", "/v1/workspaces/acme/entitlements?user=adam", None),
    ("GET", "/v1/users/adam/workspaces?action=platform.use", None),
]


@pytest.fixture(scope="module")
def revision(policies_with_context):
    return compiled_at(shipped("plans.yaml"), policies_with_context).revision


@pytest.fixture(scope="module")
def opa(revision):
    with scripted_opa(revision) as opa:
        yield opa


@pytest.fixture
def healthy_opa(opa, revision):
    yield opa
    opa.misbehaviour, opa.slow_s, opa.revision = None, 0.0, revision


@pytest.fixture(scope="module")
def proxy(database_url, compiled, revision):
    migrate(database_url, catalog=compiled.catalog, revision=revision)
    with Proxy(database_url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def sidecar(proxy, opa, policies_with_context, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sidecar")
    tokens = folder / "tokens"
    tokens.write_text(token_line("all", ["authorize", "admin"], "t"))
    settings = {
        "database_url": proxy.url,
        "opa_url": opa.url,
        "policies": policies_with_context,
        "deadline_ms": 400,
    }
    with serving(folder, workers=1, threads=3, tokens=tokens, **settings) as sidecar:
        sidecar.headers = {"Authorization": "Bearer t"}
        if not sidecar.until(sidecar.is_ready):
            raise AssertionError(sidecar.said)
        yield sidecar


def codes_of(sidecar, reads=READS):
    """(status, code) of each way of asking; each must be answered near the deadline at the latest."""
    found = []
    for method, path, body in reads:
        began = monotonic()
        status, answer = sidecar.request(method, path, body)
        assert monotonic() - began < 4
        found.append((status, answer.get("code")))
    return found


WITH_CONTEXT = READS[:2]
UNAVAILABLE = (503, "policy_engine_unavailable")
MISBEHAVED = (503, "policy_engine_misbehaved")
NO_FACTS = (503, "facts_unavailable")


@pytest.mark.parametrize("misbehaviour", MISBEHAVIOURS)
def test_an_opa_that_gives_no_verdict_is_an_outage(sidecar, healthy_opa, misbehaviour):
    healthy_opa.misbehaviour = misbehaviour

    assert codes_of(sidecar, WITH_CONTEXT) == [MISBEHAVED, MISBEHAVED]


def test_an_opa_of_another_revision_is_an_outage(sidecar, healthy_opa):
    healthy_opa.revision = "another"

    assert codes_of(sidecar, WITH_CONTEXT) == [(503, "policy_revision_mismatch")] * 2


def test_an_opa_that_is_too_slow_is_an_outage(sidecar, healthy_opa):
    healthy_opa.slow_s = 1.0

    assert codes_of(sidecar, WITH_CONTEXT) == [UNAVAILABLE, UNAVAILABLE]


def test_what_is_known_is_answered_though_opa_is_out(sidecar, healthy_opa):
    healthy_opa.misbehaviour = "says 500"

    assert sidecar.ask()[1]["reason"] == "granted"


def test_an_opa_of_another_revision_is_told_by_statusz_and_readiness_stays(sidecar, healthy_opa):
    assert sidecar.until(sidecar.is_ready)
    assert sidecar.until(lambda: sidecar.status()["converged"])
    healthy_opa.revision = "another"

    assert sidecar.until(lambda: sidecar.status()["engine"]["cause"] == "policy_revision_mismatch")
    status = sidecar.status()
    assert (status["converged"], status["engine"]["revision"], status["database"]["cause"]) == (
        False,
        "another",
        None,
    )
    assert [sidecar.request("GET", "/readyz")[0] for _ in range(5)] == [200] * 5


def test_an_opa_that_is_silent_blames_nobody_else_and_is_one_line_when_it_goes_and_one_when_it_is_back(
    sidecar, healthy_opa
):
    assert sidecar.until(lambda: sidecar.status()["converged"])
    said = sidecar.said.count("the policy engine")
    healthy_opa.slow_s = 3.0

    assert sidecar.until(lambda: sidecar.status()["engine"]["cause"] == "policy_engine_unavailable")
    assert sidecar.status()["database"]["cause"] is None
    assert sidecar.request("GET", "/readyz")[0] == 200
    sleep(2)
    assert sidecar.said.count("the policy engine") == said + 1
    healthy_opa.slow_s = 0

    assert sidecar.until(lambda: sidecar.status()["converged"])
    assert sidecar.said.count("the policy engine") == said + 2
    assert sidecar.said.rstrip().endswith("the policy engine is as it should be again")


def test_it_heals_by_itself_once_opa_does(sidecar, healthy_opa):
    healthy_opa.misbehaviour = "says HTML"
    assert sidecar.request(*READS[0])[0] == 503
    healthy_opa.misbehaviour = None

    assert sidecar.request(*READS[0])[1]["reason"] == "granted"


def test_a_database_that_is_away_is_an_outage_and_heals(sidecar, proxy):
    assert [status for status, _ in codes_of(sidecar)] == [200] * 4
    proxy.refuse()
    try:
        assert codes_of(sidecar) == [NO_FACTS] * 4
        assert sidecar.until(lambda: not sidecar.request("GET", "/readyz")[1]["database"]["ready"])
        assert sidecar.request("GET", "/readyz")[1]["database"]["code"] == "database_unreachable"
        assert sidecar.request("GET", "/readyz")[0] == 503
        assert sidecar.request("GET", "/readyz?exclude=database")[0] == 200
        status = sidecar.status()
        assert (status["database"]["cause"], status["engine"]["cause"]) == ("database_unreachable", None)
        assert "pg_isready" in status["database"]["do"]
    finally:
        proxy.accept()

    assert sidecar.until(lambda: [status for status, _ in codes_of(sidecar)] == [200] * 4)
    assert sidecar.until(sidecar.is_ready)


def test_a_database_that_falls_silent_is_an_outage_and_heals(sidecar, proxy):
    proxy.silent = True
    try:
        assert codes_of(sidecar) == [NO_FACTS] * 4
    finally:
        proxy.silent = False
        proxy.cut()

    assert sidecar.until(lambda: [status for status, _ in codes_of(sidecar)] == [200] * 4)


def test_a_database_that_restarts_costs_at_most_a_moment(sidecar, proxy):
    proxy.cut()

    statuses = [codes_of(sidecar)[0] for _ in range(5)]

    assert set(statuses) <= {(200, None), NO_FACTS}
    assert statuses[-1] == (200, None)


def test_a_change_that_could_not_be_stored_is_no_success(sidecar, proxy):
    proxy.silent = True
    try:
        status, problem = sidecar.request("PUT", "/v1/workspaces/acme/plan", {"plan": "pro"})
    finally:
        proxy.silent = False
        proxy.cut()

    assert (status, problem["code"]) == NO_FACTS
    assert sidecar.ask()[1]["plan"] == "team"


def test_nothing_is_answered_before_the_engine_has_our_revision(database, compiled, tmp_path):
    settings = {"database_url": database, "workers": 1, "deadline_ms": 2_000}
    with scripted_opa("another") as opa, serving(tmp_path, opa_url=opa.url, **settings) as sidecar:
        for misbehaviour in (None, "is undefined", "says true"):
            opa.misbehaviour = misbehaviour
            asked = opa.asked
            assert sidecar.until(lambda asked=asked: opa.asked > asked)

            assert (sidecar.ask()[0], sidecar.ask()[1]["code"]) == (503, "starting")

        opa.misbehaviour = None
        assert sidecar.until(
            lambda: sidecar.request("GET", "/readyz")[1]["worker"]["code"] == "policy_revision_mismatch"
        )
        assert sidecar.request("GET", "/readyz?exclude=database")[0] == 503
        assert sidecar.request("GET", "/healthz")[0] == 200
        assert sidecar.until(lambda: sidecar.request("GET", "/readyz")[1]["database"]["ready"])

        opa.revision = compiled.revision

        assert sidecar.until(sidecar.is_ready)
        assert sidecar.ask()[1]["reason"] == "granted"
