"""All pages, in the order of the navigation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.api.problems import problem_of
from sidecar.console.pages.decisions import DECISIONS
from sidecar.console.pages.matrix import MATRIX
from sidecar.console.pages.overview import OVERVIEW
from sidecar.console.pages.page import Asked
from sidecar.console.pages.policies import POLICIES
from sidecar.console.pages.why import WHY
from sidecar.console.pages.workspace import WORKSPACE
from sidecar.console.pages.workspaces import WORKSPACES
from sidecar.console.sources import Refused
from sidecar.errors import SidecarError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.console.pages.page import Made, Page
    from sidecar.console.sources import Sources
    from sidecar.identity.callers import Caller

PAGES: tuple[Page, ...] = (
    OVERVIEW,
    WORKSPACES,
    WORKSPACE,
    WHY,
    MATRIX,
    POLICIES,
    DECISIONS,
)


def made_of(
    page: Page,
    sources: Sources,
    caller: Caller,
    request_id: str,
    path: Mapping[str, str],
    query: Mapping[str, str],
) -> Made:
    """Refused where the page cannot be shown: its problem says why."""
    asked = Asked(sources=sources, caller=caller, request_id=request_id, path=path, query=query)
    try:
        return page.make(asked)
    except SidecarError as error:
        raise Refused(problem_of(error)) from error
