"""What does not build is said by the engine in lines with a place, and refused before anything is served."""

from __future__ import annotations

import pytest

from sidecar.engines.building import in_folder, refuse_unbuilt, unbuilt_by_embedded
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.engines.many import ManyAtOnce
from sidecar.errors import ConfigError, EngineMisbehaved, NotAsked
from sidecar.rego.compile import compiled
from sidecar.rego.load import modules_at
from sidecar.serving.loaded import load
from sidecar.settings import Settings, shipped
from tests import servers
from tests.catalog.files import ROOT
from tests.values import the_catalog

# Texts of another length are built: raw ones, escapes, and letters of several bytes.
BEFORE = 'package custom\n\n# é 日本\n_a := `raw "one"\nover two lines \\\\`\n\n_b := "é\\u00e9\\n"\n\n'
BROKEN = 'package custom\n\ndenials contains "x" if {\n\tinput.plan ==\n}\n'


def policies(**custom):
    modules = modules_at(ROOT / "policies") | {f"custom/{name}.rego": text for name, text in custom.items()}
    return compiled(the_catalog(), modules)


@pytest.mark.parametrize("before", ["package custom\n\n", BEFORE])
def test_an_error_of_the_embedded_engine_has_the_place_in_the_authors_text(before):
    text = f'{before}denials contains "é" if input.plan == == "a"\n'
    with pytest.raises(ConfigError) as refused:
        EmbeddedEngine({"custom/x.rego": text}, b"{}", revision="r1")
    line = before.count("\n") + 1

    first = refused.value.problems[0]
    assert (first.pointer, first.detail) == (
        f"custom/x.rego:{line}:36",
        "invalid boolean operator (does_not_build)",
    )
    assert refused.value.detail == f"the policies do not build: {first.pointer}: {first.detail}"
    assert in_folder(refused.value, ROOT).problems[0].pointer == f"{ROOT}/{first.pointer}"


def test_what_only_the_embedded_engine_refuses_is_a_finding(tmp_path):
    rule = 'denials contains "x" if count([k | some k, v in {"a": 1}; v == 1]) > 0'
    found = unbuilt_by_embedded(policies(x=f"package custom\n\n{rule}\n"), tmp_path)

    assert {each.code for each in found} <= {"does_not_build"}
    assert unbuilt_by_embedded(policies(), tmp_path) == []


def test_what_ends_the_embedded_engine_is_a_finding_of_the_folder(tmp_path, monkeypatch):
    def ends(*_args, **_more):
        raise ConfigError("these policies end the embedded engine's process")

    monkeypatch.setattr("sidecar.engines.apart.documents_apart", ends)
    [finding] = unbuilt_by_embedded(policies(), tmp_path)

    assert (finding.source, finding.line, finding.code) == (str(tmp_path), 1, "does_not_build")


def test_where_nobody_can_build_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sidecar.engines.building.opa_binary", lambda: None)
    broken = policies(x=BROKEN)

    refuse_unbuilt(broken, tmp_path, by_embedded=False)
    with pytest.raises(ConfigError, match="do not build"):
        refuse_unbuilt(broken, tmp_path)
    monkeypatch.setattr("sidecar.engines.building.has_embedded", lambda: False)
    refuse_unbuilt(broken, tmp_path)


@pytest.mark.opa
def test_many_situations_are_asked_up_to_the_first_error():
    text = "package custom\n\na := 1 if input.x > 1\n\na := 2 if input.x > 4\n"
    asked = [f'{{"x": {number}}}'.encode() for number in range(8)]
    found = ManyAtOnce(servers.opa_binary()).documents(policies(x=text), "data.custom.a", asked)

    assert [each if isinstance(each, int) else type(each) for each in found] == [
        *[EngineMisbehaved] * 2,
        *[1] * 3,
        EngineMisbehaved,
    ]
    assert "conflicting values" in str(found[-1])
    assert list(ManyAtOnce(servers.opa_binary()).documents(policies(), "data.custom.a", [])) == []


def test_an_opa_that_does_not_run_was_not_asked(tmp_path):
    with pytest.raises(NotAsked, match="does not run"):
        ManyAtOnce(tmp_path).documents(policies(), "data.custom.denials", [b"{}"])
    silent = tmp_path / "opa"
    silent.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    silent.chmod(0o755)
    with pytest.raises(NotAsked, match="opa eval: broken"):
        ManyAtOnce(silent).documents(policies(), "data.custom.denials", [b"{}"])


@pytest.mark.parametrize("engine", ["embedded", "opa"])
def test_a_server_does_not_start_with_policies_that_do_not_build(tmp_path, engine):
    servers.opa_binary()
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom/x.rego").write_text(BROKEN)
    settings = Settings(
        database_url="postgresql://x/y", plans=shipped("plans.yaml"), policies=tmp_path, engine=engine
    )
    with pytest.raises(ConfigError) as refused:
        load(settings)

    [problem] = refused.value.problems
    assert problem.pointer.startswith(f"{tmp_path}/custom/x.rego:5:")
    assert "\n" not in problem.detail


def test_without_opa_the_embedded_engine_refuses_them_too(tmp_path, monkeypatch):
    monkeypatch.setattr("sidecar.engines.building.opa_binary", lambda: None)
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom/x.rego").write_text(BROKEN)
    settings = Settings(
        database_url="postgresql://x/y", plans=shipped("plans.yaml"), policies=tmp_path, engine="embedded"
    )
    with pytest.raises(ConfigError) as refused:
        load(settings)

    assert [problem.pointer for problem in refused.value.problems] == [f"{tmp_path}/custom/x.rego:5:1"]


def test_an_opa_beside_the_server_that_does_not_run_is_only_told(tmp_path, monkeypatch, caplog):
    silent = tmp_path / "opa"
    silent.write_text("#!/bin/sh\nexit 1\n")
    silent.chmod(0o755)
    monkeypatch.setattr("sidecar.engines.building.opa_binary", lambda: silent)
    monkeypatch.setattr("sidecar.serving.loaded.learn_verdicts", lambda *_args, **_more: {})
    settings = Settings(database_url="postgresql://x/y", plans=shipped("plans.yaml"), engine="opa")

    load(settings)
    assert "the policies were not built before they are served" in caplog.text
