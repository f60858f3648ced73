"""Strict under load: a question that is sent after a right was taken away is never granted.

``STRICT_TRIES=100000`` in the environment has that many questions sent with each engine, not some thousands.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

import pytest

from sidecar.rego.bundle import bundle
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.identity.provider import AUDIENCE, ISSUER, SECRET
from tests.servers import opa_process
from tests.serving.rights import FORMS, KINDS
from tests.serving.serving import LANE, serving
from tests.serving.strict import tried
from tests.serving.talk import read_by
from tests.store.proxy import Proxy

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

TRIES = int(os.environ.get("STRICT_TRIES", "4000"))
LAG_S = 0.003  # of PostgreSQL's answers: as long as one is on its way, it may be from before the change
A_SECOND = 200  # tries, of a machine that is very busy
STARTS_WITHIN_S = 30
SERVED = [("opa", LANE), ("embedded", LANE)] + ([("opa", "off")] if LANE == "on" else [])


@pytest.fixture(scope="module")
def compiled_with_context(policies_with_context, database_url):
    compiled = compiled_at(shipped("plans.yaml"), policies_with_context)
    migrate(database_url, catalog=compiled.catalog, revision=compiled.revision)
    return compiled


@contextmanager
def an_engine(name, compiled):
    """The settings of one that evaluates the policies: no script."""
    if name == "embedded":
        pytest.importorskip("regopy", reason="needs the extra `embedded`")
        yield {"engine": name}
    else:
        with opa_process(bundle(compiled)) as (url, _):
            yield {"engine": name, "opa_url": url}


@pytest.mark.opa
@pytest.mark.parametrize(("engine", "lane"), SERVED)
def test_a_question_that_is_sent_after_a_change_was_answered_is_answered_from_after_it(
    tmp_path, database_url, compiled_with_context, policies_with_context, engine, lane
):
    socket, secret = tmp_path / "socket", tmp_path / "secret"
    secret.write_text(SECRET)
    tries = TRIES if lane == LANE else TRIES // 4
    with (
        an_engine(engine, compiled_with_context) as settings,
        Proxy(database_url) as far,
        serving(
            tmp_path, also_at=socket, lane=lane, database_url=far.url, deadline_ms=5_000,
            policies=policies_with_context, jwt_keys=f"hs256:{secret}", jwt_issuer=ISSUER,
            jwt_audience=AUDIENCE, **settings,
        ) as sidecar,
    ):  # fmt: skip
        assert sidecar.until(sidecar.is_ready, within_s=60), sidecar.said
        far.lag_s = LAG_S
        told = tried(
            sidecar.port, socket, database_url, tries=tries, within_s=STARTS_WITHIN_S + tries / A_SECOND
        )
        read = read_by(socket)

    assert told.wrong == []
    assert told.tries.total() >= tries
    assert set(told.tries) == set(KINDS)
    assert {answer.split()[0] for answer in told.answers} == set(FORMS)
    no_answer = sum(count for answer, count in told.answers.items() if answer.endswith(" 503"))
    assert no_answer < 0.05 * told.answers.total()
    assert told.soonest_s < 0.001
    assert (read["lane"] > read["gunicorn"]) == (lane == "on")
