"""The ledger, with how long its calls take and what becomes of them."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from sidecar.quota.model import (
    AlreadyExists,
    Charged,
    Conflict,
    Consume,
    Expired,
    GivenBack,
    Hold,
    NoCapacity,
    Replayed,
    Settlement,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.quota.model import Charge
    from sidecar.quota.ports import Ledger
    from sidecar.telemetry.metrics import Metrics

_Outcome = TypeVar("_Outcome")


def change_of(charge: Charge) -> str:
    match charge.purpose:
        case Consume():
            return "consume"
        case Hold():
            return "reserve"
        case _:
            return "late_commit"


def _result_of(outcome: object) -> str:
    """A word for what became of it; an error's is its code."""
    match outcome:
        case Charged():
            return "done"
        case Settlement() | GivenBack():
            return "replayed" if outcome.replayed else "done"
        case Replayed():
            return "replayed"
        case AlreadyExists():
            return "already_exists"
        case NoCapacity():
            return "no_capacity"
        case Conflict():
            return outcome.value
        case Expired():
            return "expired"
        case _:
            return str(getattr(outcome, "code", "internal_error"))


class MeasuredLedger:
    def __init__(self, ledger: Ledger, *, metrics: Metrics) -> None:
        self._ledger = ledger
        self._metrics = metrics

    def charge(
        self, charge: Charge, /, *, deadline: float
    ) -> Charged | Replayed | AlreadyExists | NoCapacity | Conflict:
        call = partial(self._ledger.charge, charge, deadline=deadline)
        return self._measured(change_of(charge), call)

    def find_replay(self, charge: Charge, /, *, deadline: float) -> Replayed | AlreadyExists | None:
        call = partial(self._ledger.find_replay, charge, deadline=deadline)
        return self._measured(change_of(charge), call)

    def commit(
        self, reservation: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> Settlement | Expired:
        call = partial(self._ledger.commit, reservation, amounts, deadline=deadline)
        return self._measured("commit", call)

    def release(self, reservation: str, /, *, deadline: float) -> Settlement:
        call = partial(self._ledger.release, reservation, deadline=deadline)
        return self._measured("release", call)

    def refund(
        self, workspace: str, key: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> GivenBack:
        call = partial(self._ledger.refund, workspace, key, amounts, deadline=deadline)
        return self._measured("refund", call)

    def release_resource(self, workspace: str, meter: str, resource: str, /, *, deadline: float) -> GivenBack:
        call = partial(self._ledger.release_resource, workspace, meter, resource, deadline=deadline)
        return self._measured("release_resource", call)

    def timed(self, start: Callable[..., None]) -> Callable[..., None]:
        """*start*, which takes a charge and tells *done* a result or an error later, measured too."""

        def started(
            charge: Charge, /, *, deadline: float, done: Callable[[Any, BaseException | None], None]
        ) -> None:
            began = monotonic()

            def told(found: object, error: BaseException | None) -> None:
                self._took(change_of(charge), found if error is None else error, monotonic() - began)
                done(found, error)

            start(charge, deadline=deadline, done=told)

        return started

    def _measured(self, change: str, call: Callable[[], _Outcome]) -> _Outcome:
        began = monotonic()
        outcome: object = None
        try:
            outcome = result = call()
        except Exception as error:  # whatever it is, it is counted and goes on
            outcome = error
            raise
        finally:
            self._took(change, outcome, monotonic() - began)
        return result

    def _took(self, change: str, outcome: object, seconds: float) -> None:
        self._metrics.observe_ledger(seconds)
        if outcome is not None:  # a key that nobody has used is no change
            self._metrics.count_ledger_change(change, _result_of(outcome))
