"""docs/operations/releases.md: each command of it is run and prints what stands under it."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from sidecar.cli import main
from sidecar.engines.building import has_embedded
from sidecar.identity.callers import new_token, token_line
from sidecar.rego.bundle import bundle
from sidecar.rego.compile import data_file
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from sidecar.store.publish import Files
from tests.cli.test_audit_diff import edited
from tests.servers import free_port
from tests.test_audit_docs import ROOT, fits

pytestmark = pytest.mark.postgres

TEXT = (ROOT / "docs/operations/releases.md").read_text()
BLOCK = re.compile(r"^ *```console (?P<stage>\w+)\n(?P<text>.*?)^ *```", re.MULTILINE | re.DOTALL)
IN_A_LINE = "…"  # of a line that begins as the page says


def examples():
    for block in BLOCK.finditer(TEXT):
        command, *output = [line.strip() for line in block["text"].rstrip().split("\n")]
        command, _, code = command.removeprefix("$ ").partition("  # exit code ")
        yield pytest.param(block["stage"], command, output, int(code or 0), id=command)


@pytest.fixture
def stage(tmp_path, monkeypatch, fresh_database_url):
    """A folder with the shipped files, which are published; new.yaml is a change."""
    if not has_embedded():
        pytest.skip("needs the extra `embedded`")
    plans = shipped("plans.yaml").read_text()
    shutil.copytree(shipped("policies"), tmp_path / "policies")
    (tmp_path / "plans.yaml").write_text(plans)
    (tmp_path / "new.yaml").write_text(edited(plans))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIDECAR_DATABASE_URL", fresh_database_url)
    monkeypatch.setenv("SIDECAR_ENGINE", "embedded")
    monkeypatch.setenv("SIDECAR_BIND", f"127.0.0.1:{free_port()}")
    published = compiled_at(tmp_path / "plans.yaml", tmp_path / "policies")
    migrate(
        fresh_database_url,
        catalog=published.catalog,
        revision=published.revision,
        files=Files(plans=plans.encode(), bundle=bundle(published), version="1"),
    )

    def of(name):
        if name == "changed":
            catalog = compiled_at(tmp_path / "new.yaml", tmp_path / "policies").catalog
            (tmp_path / "policies/authz/plans/data.json").write_bytes(data_file(catalog))
        elif name == "behind":
            (tmp_path / "plans.yaml").write_text(edited(plans))
        elif name == "token":
            token = new_token()
            (tmp_path / "token.txt").write_text(token)
            (tmp_path / "tokens").write_text(token_line("backend", ["people", "authorize"], token) + "\n")
            monkeypatch.setenv("SIDECAR_TOKENS", str(tmp_path / "tokens"))
        else:
            assert name == "well"

    return of


@pytest.mark.parametrize(("name", "command", "output", "code"), list(examples()))
def test_a_command_prints_what_the_page_says(name, command, output, code, stage, monkeypatch, capsys):
    stage(name)
    words, _, given = command.partition(" < ")
    if given:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(given).read_bytes())))
    monkeypatch.setattr(sys, "argv", shlex.split(words))

    with pytest.raises(SystemExit) as ended:
        main()

    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert ended.value.code == code, printed
    assert fits(shortened(printed, output), output), "\n".join(printed)


def shortened(printed, output):
    """Lines of *printed* that begin as one of *output* which ends in `…`, as that one."""
    begins = [
        line.removesuffix(IN_A_LINE) for line in output if line.endswith(IN_A_LINE) and line != IN_A_LINE
    ]
    return [next((begin + IN_A_LINE for begin in begins if line.startswith(begin)), line) for line in printed]
