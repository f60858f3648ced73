"""Where the catalog and the policies are: those named, else those here, else the shipped ones."""

from __future__ import annotations

from os.path import lexists
from pathlib import Path

from sidecar.cli import say
from sidecar.errors import ConfigError, Problem
from sidecar.rego.load import unreadable
from sidecar.settings import NO_CATALOG, PREFIX, shipped

PLANS = Path("plans.yaml")
POLICIES = Path("policies")


def own_plans(named: Path | None, /) -> Path | None:
    """*named*, else ./plans.yaml; None where there is neither."""
    return named or (PLANS if lexists(PLANS) else None)  # also a broken link: reading it reports that


def required_plans(named: Path | None, /) -> Path:
    """As own_plans; ConfigError where there is neither."""
    if found := own_plans(named):
        return found
    pointer, detail = f"{PREFIX}PLANS", f"is required: {NO_CATALOG}"
    raise ConfigError(f"{pointer} {detail}", problems=(Problem(pointer=pointer, detail=detail),))


def plans_or_shipped(named: Path | None, /) -> Path:
    """As own_plans, else the shipped demo, with a line on standard error."""
    if found := own_plans(named):
        return found
    demo = shipped(PLANS.name)
    say(f"sidecar: no ./{PLANS} here: the shipped demo is used, {demo}", level="warning")
    return demo


def own_policies(named: Path | None, /, *, plans: Path) -> Path | None:
    """*named*, else ./policies, else the folder `policies` beside *plans*; None where none of them is there.

    A folder that was not named counts only if it holds Rego: `policies` may be a folder of contracts.
    """
    if named:
        return named
    if _holds_rego(POLICIES):
        return POLICIES
    beside = plans.parent / POLICIES
    return beside if _holds_rego(beside) and not beside.samefile(shipped(POLICIES.name)) else None


def policies_or_shipped(named: Path | None, /, *, plans: Path) -> Path:
    """As own_policies, else the shipped ones, silently: few companies have rules of their own."""
    return own_policies(named, plans=plans) or shipped(POLICIES.name)


def is_shipped(path: Path) -> bool:
    """Whether it is the shipped file or folder of that name."""
    ours = shipped(path.name)
    return path.exists() and ours.exists() and path.samefile(ours)


def _holds_rego(folder: Path) -> bool:
    try:
        next(folder.iterdir(), None)  # rglob skips unreadable folders, and rules would be lost
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unreadable(folder, error) from error
    return next(folder.rglob("*.rego"), None) is not None
