"""deploy/kubernetes/base/opa.yaml, run by a real OPA beside a real sidecar: it fetches, and it keeps."""

from __future__ import annotations

import http.client
import json

import pytest

from sidecar.identity.callers import new_token, token_line
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.deploy.manifests import KUBERNETES
from tests.servers import free_port, opa_server
from tests.serving.serving import serving
from tests.test_image import healthy

pytestmark = [pytest.mark.opa, pytest.mark.postgres, pytest.mark.slow]


def config_of(folder, *, port, token):
    """The file as it is, but for where things are on this machine."""
    text = (KUBERNETES / "base/opa.yaml").read_text()
    (folder / "token").write_text(f"{token}\n")
    for said, here in (
        ("http://127.0.0.1:8080", f"http://127.0.0.1:{port}"),
        ("/run/secrets/opa/token", folder / "token"),
        ("/var/opa", folder / "kept"),
    ):
        assert said in text
        text = text.replace(said, str(here))
    (folder / "opa.yaml").write_text(text)
    return folder / "opa.yaml"


def revision_at(url):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
    connection.request("GET", "/v1/data/system/bundles/authz/manifest/revision")
    try:
        return json.loads(connection.getresponse().read()).get("result")
    finally:
        connection.close()


def test_opa_fetches_its_bundle_from_the_sidecar_and_has_it_at_its_next_start(tmp_path, fresh_database_url):
    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
    migrate(fresh_database_url, catalog=compiled.catalog, revision=compiled.revision)
    audit, port = new_token(), free_port()
    (tmp_path / "tokens").write_text(token_line("opa", ["audit"], audit) + "\n")
    options = ["--config-file", str(config_of(tmp_path, port=port, token=audit))]
    asked = free_port()
    with (
        opa_server(port=asked, options=options) as opa,
        serving(
            tmp_path,
            port=port,
            workers=1,
            engine="opa",
            opa_url=opa,
            tokens=tmp_path / "tokens",
            database_url=fresh_database_url,
        ) as sidecar,
    ):
        assert sidecar.until(sidecar.is_ready), sidecar.said
        assert sidecar.until(lambda: sidecar.status()["converged"]), sidecar.status()
        assert healthy(f"0.0.0.0:{port}") == 0  # the image's own check, of a real server
    with opa_server(port=asked, options=options) as opa:  # no sidecar answers now
        assert sidecar.until(lambda: revision_at(opa) == compiled.revision, within_s=20)
