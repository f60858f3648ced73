"""docs/flags.md as its reader: the files that it has them write, and the commands with what they print."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.node import TOOLS, installed, program
from tests.test_architecture import ROOT
from tests.typescript.test_docs import blocks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TEXT = (ROOT / "docs/flags.md").read_text()
_NAME = re.compile(r"(?:# |// |<!-- )([\w.]+)(?: -->)?\n")
LANGUAGES = ("python", "js", "html", "tsx")


class Document:
    """*instead*: other ports and times than it names."""

    def __init__(self, instead: Mapping[str, object]) -> None:
        self.text = _TEXT
        for written, other in instead.items():
            if written not in self.text:
                raise AssertionError(f"docs/flags.md does not say {written}")
            self.text = self.text.replace(written, str(other))

    def write(self, folder: Path) -> None:
        for language in LANGUAGES:
            for code in blocks(self.text, language):
                named = _NAME.match(code)
                assert named, f"a block of {language} without the name of its file:\n{code}"
                (folder / named[1]).write_text(code)

    def shell(self, word: str) -> str:
        """The one shell block with this word."""
        [script] = [each for each in blocks(self.text, "sh") if word in each]
        return script

    def commands(self, word: str) -> list[tuple[str, str]]:
        """The console's commands with this word, each with what it prints."""
        consoles = "".join(blocks(self.text, "console"))
        pairs = [each.partition("\n") for each in consoles.split("$ ")[1:]]
        return [(command, shown) for command, _, shown in pairs if word in command]


def with_packages(within: Path) -> Path:
    """*within*, where all that the document installs by npm can be imported."""
    (within / "node_modules").symlink_to(installed(TOOLS) / "node_modules")
    (within / "package.json").write_text('{"type": "module"}')
    return within


def printed(command: str, *, cwd: Path) -> str:
    words = command.replace("python ", f"{sys.executable} ", 1) if command.startswith("python ") else command
    words = words.replace("node ", f"{program('node')} ", 1) if command.startswith("node ") else words
    done = subprocess.run(
        ["bash", "-euc", words], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def is_as_shown(said: str, shown: str) -> bool:
    """… leaves something out."""
    parts = [re.escape(part.strip()) for part in shown.strip().split("…")]
    return re.fullmatch(r"[\s\S]*?".join(parts), said.strip()) is not None
