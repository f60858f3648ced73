"""A company whose database an auditor looks at: the demo world, and its policies published and kept."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from sidecar.cli import main
from sidecar.rego.bundle import bundle
from sidecar.rego.load import compiled_at, plans_text
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from sidecar.store.publish import Files
from tests.postgres_server import rows, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AUDITOR = "authz_test_auditor"


@dataclass
class Company:
    """*url* is a superuser's, *auditor* that of a login of authz_audit alone; *folder* holds its files."""

    url: str
    auditor: str
    folder: Path

    def edit(self, name: str, before: str, after: str) -> None:
        path = self.folder / name
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))

    def publish(self) -> str:
        """What its folder holds; the revision."""
        plans = self.folder / "plans.yaml"
        compiled = compiled_at(plans, self.folder / "policies")
        files = Files(plans=plans_text(plans), bundle=bundle(compiled), version=version("policy-sidecar"))
        migrate(self.url, catalog=compiled.catalog, revision=compiled.revision, files=files)
        return compiled.revision

    def do(self, *statements: str, by: str | None = None) -> None:
        """In one transaction each; *by* is a user."""
        with psycopg.connect(self.url) as connection:
            for statement in statements:
                if by is not None:
                    connection.execute("SELECT authz.acting_as(%s, 'user')", (by,))
                connection.execute(statement.encode())
                connection.commit()

    def unseen(self, *statements: str) -> None:
        """Past all triggers, as somebody does who covers their traces."""
        run(self.url, *(f"SET session_replication_role = replica; {statement}" for statement in statements))

    def rows(self, query: str) -> list[tuple[object, ...]]:
        return rows(self.url, query)

    def id_of(self, slug: str) -> str:
        (row,) = self.rows(f"SELECT id FROM authz.workspaces WHERE slug = '{slug}'")
        return str(row[0])


@contextmanager
def a_company(url: str, folder: Path, *, auditor: str = AUDITOR) -> Iterator[Company]:
    """The demo world under what *folder* holds; *auditor* is a login, of which a server has one."""
    run(
        url,
        f"DROP ROLE IF EXISTS {auditor}",
        f"CREATE ROLE {auditor} LOGIN PASSWORD 'a' IN ROLE authz_audit",
    )
    login = make_conninfo(url, user=auditor, password="a")  # noqa: S106 - a test's own role
    company = Company(url, login, folder)
    company.publish()
    yield company
    run(url, f"DROP ROLE {auditor}")


@pytest.fixture
def company(fresh_database_url: str, tmp_path: Path) -> Iterator[Company]:
    shutil.copy(shipped("plans.yaml"), tmp_path)
    shutil.copytree(shipped("policies"), tmp_path / "policies")
    with a_company(fresh_database_url, tmp_path) as company:
        yield company


@pytest.fixture
def stage_company(fresh_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """For docs/audit.md: the demo world under our own plans and policies, and a login that may audit it."""
    with a_company(fresh_database_url, shipped("plans.yaml").parent) as company:
        monkeypatch.setenv("SIDECAR_AUDIT_URL", company.auditor)
        yield company.folder


@pytest.fixture
def audit(company: Company, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """`sidecar audit …` in the company's folder, as its auditor: exit code, output, errors."""

    def asked(*arguments: str, engine: str = "embedded"):
        monkeypatch.chdir(company.folder)
        monkeypatch.setenv("SIDECAR_AUDIT_URL", company.auditor)
        monkeypatch.setattr(sys, "argv", ["sidecar", "audit", *arguments, "--engine", engine])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capfd.readouterr()
        return left.value.code or 0, printed.out, printed.err

    return asked
