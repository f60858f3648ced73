"""What a client says in the gateway's place reaches no backend, however it is written."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.gateways.copies import COPIES, IDENTITY, forms_of
from tests.gateways.processes import DOCS
from tests.identity.provider import bearer

MIA = bearer(sub="mia")
PAGE = "/workspaces/acme/page"
FORGED = "forged"


@pytest.mark.postgres
@pytest.mark.gateways
def test_a_clients_copy_of_a_gateways_header_is_dropped(gateway, upstream):
    for name in COPIES:
        for lines in (
            [f"{form}: {FORGED}" for form in forms_of(name)],
            [f"{form}: {FORGED}" for form in forms_of(name.lower())],
            [f"{name.upper()}: {FORGED}"] * 2,
        ):
            answer = gateway.ask(PAGE, *lines, bearer=MIA)

            reached = upstream.reached[-1]
            assert (answer.status, name) == (200, name)
            assert [value for each in COPIES for value in reached.values(each) if FORGED in value] == []
            assert len(reached.values(name)) <= 1


def removed_by(document: str) -> dict[str, set[str]]:
    """The names that the plugins of *document* remove, by gateway."""
    plugins = [
        yaml.safe_load(each)["plugins"] for each in re.findall(r"```yaml\n(.*?)```", document, re.DOTALL)
    ]
    apisix = next(each for each in plugins if isinstance(each, dict))
    kong = next(each for each in plugins if isinstance(each, list))
    transformer = next(each for each in kong if each["name"] == "request-transformer")
    return {
        "apisix": set(apisix["proxy-rewrite"]["headers"]["remove"]),
        "kong": set(transformer["config"]["remove"]["headers"]),
    }


def test_gateways_that_are_not_run_here_are_told_to_drop_every_form_of_them():
    removed = removed_by((DOCS / "opa.md").read_text())

    forms = {form for name in COPIES for form in forms_of(name)}
    assert forms - removed["apisix"] == set()
    assert forms - removed["kong"] == {*IDENTITY}  # which Kong's opa has set by then
