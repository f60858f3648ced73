"""docs/operations/runbook.md: it has every cause of an outage, and each command of it runs."""

from __future__ import annotations

import re
import shutil
from http import HTTPStatus

import pytest

from sidecar.api.problems import PROBLEMS
from sidecar.errors import ConfigError, DependencyError
from sidecar.identity.callers import append_line, new_token, token_line
from sidecar.rego.bundle import bundle
from sidecar.rego.load import compiled_at
from sidecar.serving import causes
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.pages import OPERATIONS, ROOT, blocks, run_block
from tests.servers import opa_server
from tests.serving.serving import serving

PAGE = (OPERATIONS / "runbook.md").read_text()
SERVING = ROOT / "sidecar/serving"
ALERTS = (OPERATIONS / "alerts.md").read_text()
SECTION = re.compile(r"^## ([a-z_]+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
# What serving/ says of a part by a word of its own.
SAID = re.compile(r'(?:code=|cause=|"code": |"cause": )"([a-z_]+)"')


def causes_of_outages():
    """Of a 503, of /readyz and of /statusz."""
    said = {code for path in SERVING.glob("*.py") for code in SAID.findall(path.read_text())}
    return {
        *(code for code, (status, _) in PROBLEMS.items() if status == HTTPStatus.SERVICE_UNAVAILABLE),
        *(error.code for error in DependencyError.__subclasses__()),
        *(each for each in map(str, vars(causes).values()) if re.fullmatch(r"database_[a-z_]+", each)),
        *(said - PROBLEMS.keys()),
        ConfigError.code,
    }


def test_every_cause_of_an_outage_has_its_entry():
    found = causes_of_outages()

    assert {"draining", "not_reloaded", "starting", "database_refused", "overloaded"} <= found
    assert {name for name, _ in SECTION.findall(PAGE)} == found


@pytest.mark.parametrize(("name", "text"), SECTION.findall(PAGE), ids=lambda each: each[:30])
def test_an_entry_says_what_it_means_what_to_look_at_what_to_do_and_when_it_is_over(name, text):
    assert re.findall(r"^\*\*(Means|Look and do|Look|Do|Over when)\b", text, re.MULTILINE) in (
        ["Means", "Look", "Do", "Over when"],
        ["Means", "Look and do", "Over when"],
    ), name


def test_every_alert_is_a_symptom_and_leads_back():
    alerts = re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", ALERTS, re.MULTILINE | re.DOTALL)

    assert alerts
    for name, text in alerts:
        assert f"(alerts.md#{name.lower()})" in PAGE, name
        assert "(runbook.md#" in text, name


@pytest.fixture(scope="module")
def world(tmp_path_factory, database_url):
    """A folder with the files, and what the page's variables stand for: servers that run."""
    folder = tmp_path_factory.mktemp("runbook")
    shutil.copytree(shipped("policies"), folder / "policies")
    shutil.copy(shipped("plans.yaml"), folder)
    compiled = compiled_at(folder / "plans.yaml", folder / "policies")
    migrate(database_url, catalog=compiled.catalog, revision=compiled.revision)
    token, tokens, log = new_token(), folder / "tokens", folder / "log"
    append_line(tokens, token_line("operator", ["audit"], token))
    log.mkdir()
    with (
        opa_server(bundle(compiled)) as opa,
        serving(
            folder,
            database_url=database_url,
            opa_url=opa,
            tokens=tokens,
            workers=1,
            plans=folder / "plans.yaml",
            policies=folder / "policies",
        ) as sidecar,
    ):
        assert sidecar.until(sidecar.is_ready), sidecar.said
        assert sidecar.ask()[0] == 401  # a problem, which is counted
        yield (
            folder,
            {
                "SIDECAR": f"http://127.0.0.1:{sidecar.port}",
                "SIDECAR_BIND": f"127.0.0.1:{sidecar.port}",
                "SIDECAR_DATABASE_URL": database_url,
                "SIDECAR_LOG_DIR": str(log),
                "SIDECAR_OPA_URL": opa,
                "SIDECAR_TOKENS": str(tokens),
                "OWNER_URL": database_url,
                "TOKEN": token,
            },
        )


@pytest.mark.postgres
@pytest.mark.opa
@pytest.mark.parametrize("block", blocks("runbook.md"), ids=lambda block: block.split("\n")[0][:40])
def test_each_command_runs_and_prints_something(block, world):
    folder, variables = world

    ran = run_block(block, variables, folder=folder)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.strip(), ran.stderr
    assert "SIDECAR" not in ran.stderr  # of a variable that the page does not name
