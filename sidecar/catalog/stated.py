"""Shapes for the state of a workspace, shared by world files and decision cases."""

from __future__ import annotations

from sidecar.catalog.sections import HIGHEST
from sidecar.catalog.shape import Field, Flag, Line, MapOf, Record, Reference, Whole, Words

USER_ID = Line(pattern=r"(?s:.{1,256})", says="the id of a user, at most 256 characters")
STATUS = Words(words=("active", "suspended"))
OVERRIDES = Record(
    fields={
        "features": Field(
            shape=MapOf(
                key=Reference(kind="feature", verb="overrides"),
                value=Flag(),
                says="a mapping of features to true or false",
                noun="feature",
            )
        ),
        "limits": Field(
            shape=MapOf(
                key=Reference(kind="meter", verb="overrides"),
                value=Whole(low=0, high=HIGHEST, word="unlimited", code="bad_limit"),
                says="a mapping of meters to limits",
                noun="limit",
            )
        ),
    },
    says="a mapping with features and limits",
)


def counts(says: str, *, verb: str, code: str) -> MapOf:
    """A number from 0 on for each meter; *says* completes "a mapping of meters to …"."""
    return MapOf(
        key=Reference(kind="meter", verb=verb),
        value=Whole(low=0, high=HIGHEST, code=code),
        says=f"a mapping of meters to {says}",
        noun="usage",
    )
