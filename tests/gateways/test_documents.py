"""Every dialect has a document, and every document's configuration is run against the real gateway."""

from __future__ import annotations

from sidecar.api.audience import Audience
from sidecar.api.endpoints import ENDPOINTS
from tests.gateways.processes import DOCS, KINDS

WITHOUT_A_GATEWAY_HERE = {"README.md", "opa.md"}  # the plugins of APISIX and Kong, which nothing here can run


def test_every_document_is_that_of_a_gateway_that_is_run():
    documents = {path.name for path in DOCS.glob("*.md")}

    assert {kind.document for kind in KINDS.values()} == documents - WITHOUT_A_GATEWAY_HERE


def test_every_endpoint_for_gateways_is_asked_by_one_of_them():
    configurations = "".join((DOCS / kind.document).read_text() for kind in KINDS.values())
    paths = [each.path.partition("/{")[0] for each in ENDPOINTS if each.audience is Audience.GATEWAYS]

    assert paths
    assert [path for path in paths if path not in configurations] == []
