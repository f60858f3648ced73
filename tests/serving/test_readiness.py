"""How often a part is asked, and when it counts as away."""

from __future__ import annotations

from threading import Event

from sidecar.errors import EngineUnavailable
from sidecar.serving.causes import Cause
from sidecar.serving.readiness import Watch
from sidecar.serving.said import Said


class Waits(Event):
    """A stop that comes after so many waits, and takes no time; *taken* are the seconds."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self.taken: list[float | None] = []

    def is_set(self) -> bool:
        return len(self.taken) == self._count

    def wait(self, timeout: float | None = None) -> bool:
        self.taken.append(timeout)
        return self.is_set()


def test_what_does_not_answer_is_asked_again_at_once_and_is_away_with_the_second_time():
    answers = iter(["r", None, None, "r", "r"])
    causes = []

    def ask(_deadline):
        answer = next(answers)
        if answer is None:
            raise EngineUnavailable("silent")
        return answer

    watch = Watch(
        "policy engine",
        ask,
        wanted="r",
        differs=lambda _: Cause(code="other", do="", detail=""),
        said=Said(None),
    )
    waits = Waits(5)
    watch.run(waits, lambda: causes.append(watch.state.cause and watch.state.cause.code))

    assert causes == [None, None, "policy_engine_unavailable", None, None]
    assert waits.taken == [1.0, 0.25, 0.25, 1.0, 1.0]
