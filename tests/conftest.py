from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.effort import THOROUGH, forget_verdicts, share_verdicts
from tests.postgres_server import (  # noqa: F401 - fixtures, for every test
    database,
    database_url,
    empty_database_url,
    fresh_database_url,
    migrated_template,
    postgres_server,
)

LONG = "long: `.ci/run` has it, and TEST_EFFORT=thorough"

if TYPE_CHECKING:
    from collections.abc import Generator


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres", metavar="URL", help="a superuser's URL of a server to test on, not the embedded one"
    )
    parser.addoption(
        "--require-servers",
        action="store_true",
        help="a test that finds no server or binary, and would skip itself for want of it, is a failure",
    )


def pytest_configure(config: pytest.Config) -> None:
    if folder := share_verdicts():
        config.add_cleanup(lambda: forget_verdicts(folder))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without long tests, unless asked for; and files with slow ones first, so that none ends alone."""
    if not THOROUGH:
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skipif(True, reason=LONG))  # noqa: FBT003 - pytest's
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    wanting = report.skipped and not hasattr(report, "wasxfail") and not _is_for_another_machine(item)
    if wanting and item.config.getoption("--require-servers"):
        report.outcome = "failed"
        report.longrepr = (
            f"skipped, and --require-servers allows no skip: {call.excinfo and call.excinfo.value}"
        )
    return report


def _is_for_another_machine(item: pytest.Item) -> bool:
    """Whether a mark says that the test cannot be here: another user, another place. No server would help."""
    return any(mark.args[0] is True for mark in item.iter_markers("skipif"))
