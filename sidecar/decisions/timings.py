"""Where the time of one question goes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Timings:
    """Seconds that a question has waited for each part so far, retries included; 0 if a part was not asked.

    Whoever asks hands one down, and whoever waits adds to it, also when the wait ends in an error.
    """

    facts_s: float = 0.0
    policy_s: float = 0.0
    ledger_s: float = 0.0
