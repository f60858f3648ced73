"""docs/typescript.md and docs/react.md from nothing: their code runs, and what they show is compared."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

from sidecar.cli.dev import JWT_SECRET
from tests.identity.provider import a_token
from tests.node import passed, program, run
from tests.servers import free_port
from tests.test_architecture import ROOT
from tests.typescript.packages import PACKAGE, built, compiled_by, consumer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.serving.serving import Sidecar

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"(?:// |<!-- )([\w.]+)(?: -->)?\n")
TYPESCRIPT, REACT = ((ROOT / f"docs/{name}.md").read_text() for name in ("typescript", "react"))
_INSTALLS_WITHIN_S = 120
_STARTS_WITHIN_S = 20


def blocks(text: str, language: str) -> list[str]:
    return [code for kind, code in FENCE.findall(text) if kind == language]


class Reader:
    """Somebody who does what a document says, in *folder*, with other ports than it names."""

    def __init__(self, text: str, folder: Path, ports: Mapping[str, int]) -> None:
        self.text = text
        for old, new in ports.items():
            self.text = self.text.replace(old, str(new))
        self.folder = folder
        self.stack = ExitStack()

    def install(self, name: str) -> None:
        """The first shell block: pack, install."""
        built()
        (self.folder / "clients").symlink_to(PACKAGE.parent)
        script = blocks(self.text, "sh")[0].replace("/tmp", str(self.folder))  # noqa: S108 - the document's
        # It is installed and compiled, and other tests use it just now.
        script = script.replace("npm ci --silent && ", "").replace("npm pack", "npm pack --ignore-scripts")
        environ = {"npm_config_prefer_offline": "true", "npm_config_cache": str(Path.home() / ".npm")}
        passed("bash", "-euc", script, cwd=self.folder, within_s=_INSTALLS_WITHIN_S, **environ)
        self.folder /= name
        for types in ("@types", "typescript", "typescript-7"):
            link = self.folder / "node_modules" / types
            if not link.exists():
                link.symlink_to(PACKAGE / "node_modules" / types)

    def write(self, language: str) -> list[str]:
        names = []
        for code in blocks(self.text, language):
            named = NAMED.match(code)
            assert named, f"a block of {language} without the name of its file:\n{code}"
            (self.folder / named[1]).write_text(code)
            names.append(named[1])
        return names

    def compile(self, names: list[str]) -> None:
        for compiler in ("typescript-7", "typescript"):
            # The first has checked the types; the second is slow at that.
            emit = ["--outDir", ".", "--noCheck"] if compiler == "typescript" else ["--noEmit"]
            done = compiled_by(compiler, *emit, *names, cwd=self.folder)
            assert done.returncode == 0, f"{compiler}: {done.stdout}"

    def do(self, console: str) -> None:
        """Every command of a console block prints what stands there; … leaves something out."""
        for command, _, shown in (each.partition("\n") for each in console.split("$ ")[1:]):
            if command.endswith("&"):
                self.start(command.removesuffix("&").strip())
                continue
            words = command.replace(".ts", ".js") if command.startswith("node ") else command
            words = re.sub(r"^sidecar ", f"{shlex.quote(sys.executable)} -m sidecar ", words)
            said = passed("bash", "-euc", words, cwd=self.folder)
            parts = [re.escape(part.strip()) for part in shown.split("…")]
            assert re.fullmatch(r"[\s\S]*?".join(parts), said.strip()), f"{command}\n{said}\nis not\n{shown}"

    def start(self, command: str) -> None:
        self.stack.enter_context(self._running(command))

    @contextmanager
    def _running(self, command: str) -> Iterator[None]:
        script = command.split()[1].replace(".ts", ".js")
        port = int(re.search(r"(?:port: |listen\()(\d+)", (self.folder / script).read_text())[1])  # type: ignore[index] # it listens
        with (self.folder / f"{script}.log").open("wb") as log:
            process = subprocess.Popen([program("node"), script], cwd=self.folder, stdout=log, stderr=log)
        try:
            ending = monotonic() + _STARTS_WITHIN_S
            while run(program("curl"), "-s", f"http://127.0.0.1:{port}", cwd=self.folder).returncode != 0:
                assert process.poll() is None, (self.folder / f"{script}.log").read_text()
                assert monotonic() < ending, f"{script} does not listen"
                sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(10)


def reader_of(text: str, folder: Path, sidecar: Sidecar) -> Reader:
    return Reader(text, folder, {"8080": sidecar.port, "3000": free_port(), "3001": free_port()})


@pytest.fixture
def demo_plans(monkeypatch):
    monkeypatch.setenv("SIDECAR_PLANS", str(ROOT / "plans.yaml"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.usefixtures("demo_plans")
def test_typescript_md_is_done_from_nothing(sidecar, tmp_path):
    program("curl")
    reader = reader_of(TYPESCRIPT, tmp_path, sidecar)
    reader.install("trainer")
    names = reader.write("ts")
    consoles = blocks(reader.text, "console")
    [types] = [each for each in consoles if "sidecar types" in each]
    reader.do(types)
    link_express(reader.folder)
    reader.compile(names)
    with reader.stack:
        for console in consoles:
            reader.do(console)


def link_express(folder: Path) -> None:
    """The document's second half is for those who have it."""
    (folder / "node_modules/express").symlink_to(PACKAGE / "node_modules/express")


def test_react_md_is_done_from_nothing(sidecar, tmp_path):
    program("curl")
    backend = reader_of(TYPESCRIPT, tmp_path / "backend", sidecar)
    backend.folder.mkdir()
    consumer(backend.folder)
    backend.write("ts")
    api = int(re.search(r"port: (\d+)", backend.text)[1])  # type: ignore[index] # it stands there
    reader = Reader(REACT, tmp_path / "page", {"8080": sidecar.port, "3000": api})
    reader.folder.mkdir()
    consumer(reader.folder)  # that a packed package can be installed, the other document's test has shown
    reader.write("html")
    names = [*reader.write("ts"), *reader.write("tsx")]
    assert compiled_by("typescript", "--noCheck", "app.ts", cwd=backend.folder).returncode == 0
    reader.compile(names)
    passed(program("node"), reader.folder / "node_modules/vite/bin/vite.js", "build", cwd=reader.folder)
    assert list((reader.folder / "dist/assets").glob("*.js"))

    install, serve, sell = blocks(reader.text, "sh")
    assert install
    assert f'"{JWT_SECRET}"' in serve
    page = reader.folder / "node_modules/page.mjs"
    page.write_bytes((PACKAGE / "test/page.mjs").read_bytes())
    (page.parent / "dom.mjs").write_bytes((PACKAGE / "test/dom.mjs").read_bytes())
    with backend.stack:
        backend.start("node app.ts")
        passed(
            program("node"),
            page,
            cwd=reader.folder,
            MAIN=str(reader.folder / "main.js"),
            BACKEND_URL=f"http://127.0.0.1:{api}",
            TOKEN=a_token(JWT_SECRET, sub="sam", email="sam@example.com"),
            SELL=sell,
        )


def test_every_css_variable_is_described_and_no_other():
    source = (PACKAGE / "src/react/upgrade.tsx").read_text()
    [css] = blocks(REACT, "css")

    assert set(re.findall(r"--policy-sidecar-[\w-]+", css)) == set(
        re.findall(r"--policy-sidecar-[\w-]+", source)
    )


def test_every_export_for_react_is_described():
    exported = re.findall(
        r"^export .*?\{(.*?)\}", (PACKAGE / "src/react.ts").read_text(), re.MULTILINE | re.DOTALL
    )
    values = {
        name.strip()
        for names in exported
        for name in names.split(",")
        if name.strip() and "type " not in name
    }

    assert values
    assert [name for name in values if f"{name}" not in REACT] == []
