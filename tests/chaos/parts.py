"""What a world of faults is made of: servers that can be killed and started again."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pytest

from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from sidecar.store.world import load
from tests.postgres_server import DEMO_WORLD
from tests.serving.serving import Sidecar, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from sidecar.local.postgres import EmbeddedPostgres
    from sidecar.rego.compile import Compiled
    from tests.chaos.toxiproxy import Link
    from tests.store.proxy import Proxy

T = TypeVar("T")


class Again(Generic[T]):
    """A server that *start* starts, as often as is wanted; *it* is the one that runs."""

    it: T

    def __init__(self, start: Callable[[], AbstractContextManager[T]]) -> None:
        self._start = start
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.it = self._stack.enter_context(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def end(self) -> None:
        self._stack.close()

    def again(self) -> None:
        """A new one; of the one before nothing runs."""
        self._stack.close()
        self.it = self._stack.enter_context(self._start())


def with_the_demo_world(url: str, policies: Path) -> Compiled:
    """By the shipped catalog and *policies*: what is published at *url*."""
    compiled = compiled_at(shipped("plans.yaml"), policies)
    migrate(url, catalog=compiled.catalog, revision=compiled.revision)
    load(url, DEMO_WORLD)
    return compiled


def a_sidecar(folder: Path, **settings: Any) -> Again[Sidecar]:
    """Two workers that need no other server than the database; its policies are in *folder*."""
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    return Again(
        lambda: serving(folder, workers=2, engine="embedded", policies=folder / "policies", **settings)
    )


@dataclass(frozen=True, kw_only=True)
class World:
    """*port* is where clients ask; *database* the superuser's URL of the database that counts now."""

    port: int
    database: Callable[[], str]
    sidecar: Again[Sidecar]


@dataclass(frozen=True, kw_only=True)
class Connected(World):
    """All there is to break between and in the processes. *links* are by who is at their far end."""

    links: Mapping[str, Link]
    postgres: Again[EmbeddedPostgres]
    by_tcp: Proxy
    opa: Again[tuple[str, int]]


W = TypeVar("W", bound=World)


@dataclass(frozen=True, kw_only=True)
class Fault(Generic[W]):
    """It lasts while the context that *breaks* gives is open.

    *sql*: the database answers us meanwhile, or refuses at once. *told*: clients have to hear one of these
    codes, else the fault has broken nothing. *refused*: no client is granted a minute meanwhile.
    *recovers_s*: so soon after its end nobody is told of an outage any more.
    """

    breaks: Callable[[W], AbstractContextManager[None]]
    sql: bool = True
    told: frozenset[str] = field(default=frozenset())
    refused: bool = False
    recovers_s: float = 30.0
