"""A day of the whole product: its log, and the database that it is about, as an auditor gets them."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from sidecar.cli import main
from sidecar.identity.callers import SCOPES, token_line
from sidecar.rego.bundle import bundle
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.world import load
from tests.identity.provider import AUDIENCE, ISSUER, SECRET, a_token
from tests.postgres_server import DEMO_WORLD, a_database
from tests.serving.serving import serving

CHECK = {"user": "adam", "workspace": "acme", "action": "platform.use"}


@pytest.fixture(scope="session")
def compiled():
    return compiled_at(shipped("plans.yaml"), shipped("policies"))


@pytest.fixture(scope="session")
def audited(postgres_server, migrated_template):
    """A superuser's URL of a database that was published by `sidecar migrate`."""
    for url in a_database(postgres_server, template=migrated_template):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["sidecar", "migrate", "--database-url", url])
            patch.setenv("SIDECAR_PLANS", str(shipped("plans.yaml")))
            with pytest.raises(SystemExit) as left:
                main()
        assert not left.value.code
        load(url, DEMO_WORLD)
        yield url


@pytest.fixture(scope="session")
def log(audited, tmp_path_factory):
    """The folder that a sidecar has written: it was asked for all that a log tells of, and stopped."""
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    folder = tmp_path_factory.mktemp("a_day")
    with a_sidecar(folder, audited) as sidecar:
        as_adam = {"Authorization": f"Bearer {a_token(sub='adam')}"}
        override = {"features": {"team_analytics": True}}
        asked = [
            sidecar.request("POST", "/v1/authorize", CHECK),
            sidecar.ask(user="sam", workspace="solo", action="analytics.view"),
            sidecar.ask(user="nobody"),
            sidecar.ask(mode="consume", amounts={"minutes": 5}, idempotency_key="one"),
            sidecar.ask(mode="consume", amounts={"minutes": 5}, idempotency_key="one"),
            sidecar.request("GET", "/v1/workspaces/acme/entitlements?user=adam"),
            sidecar.request("PUT", "/v1/workspaces/piano/overrides", override),
            sidecar.ask(user="pia", workspace="piano", action="team_analytics.view"),
            sidecar.request("DELETE", "/workspaces/acme/members/mia", headers=as_adam.items()),
            sidecar.request("PUT", "/v1/workspaces/solo/plan", {"plan": "pro"}),
            held := sidecar.ask(mode="reserve", amounts={"minutes": 5}),
            sidecar.request(
                "POST",
                f"/v1/reservations/{held[1]['reservation']['id']}/commit",
                {"amounts": {"minutes": 3}},
            ),
        ]
        assert {status for status, _ in asked} == {200, 204}
    return folder / "log"


@contextmanager
def a_sidecar(folder, url, **settings):
    (folder / "secret").write_text(SECRET)
    (folder / "tokens").write_text(token_line("dev", SCOPES, "t") + "\n")
    with serving(
        folder,
        database_url=url,
        engine="embedded",
        log_dir=folder / "log",
        deadline_ms=5_000,
        grace_s=10,
        alive=False,
        jwt_keys=f"hs256:{folder / 'secret'}",
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
        tokens=folder / "tokens",
        **settings,
    ) as sidecar:
        sidecar.headers = {"Authorization": "Bearer t"}
        assert sidecar.until(sidecar.is_ready, within_s=120), sidecar.said
        yield sidecar


@pytest.fixture
def copy(log, tmp_path):
    return Path(shutil.copytree(log, tmp_path / "copy"))


@pytest.fixture(scope="session")
def archive(compiled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    (folder / f"{compiled.revision}.tar.gz").write_bytes(bundle(compiled))
    return folder


@pytest.fixture(name="sidecar")
def the_command_line(monkeypatch, capfd):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["sidecar", "audit", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capfd.readouterr()
        return left.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def verify(sidecar):
    def run(*arguments):
        code, out, err = sidecar("verify-log", *arguments, "--json")
        assert out, err
        return code, json.loads(out)

    return run
