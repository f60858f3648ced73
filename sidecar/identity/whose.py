"""Whose a token is, or why nobody's, without asking anybody: for an operator who has one in their hands.

Nothing that it says holds the token, or a hash of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sidecar.errors import UnknownCaller, UnknownUser
from sidecar.identity.callers import TOKEN_PREFIX
from sidecar.identity.refusals import LOGGED
from sidecar.identity.users import identities_of, shows_a_jwt

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.identity.callers import Callers
    from sidecar.identity.users import EndUser
    from sidecar.settings import Settings

_SCHEME = re.compile(r"bearer +", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whose:
    """*known* is None where only somebody who was not asked could say it. *lines* are for a person."""

    known: bool | None
    lines: tuple[str, ...]


def whose(token: str, *, settings: Settings, callers: Callers) -> Whose:
    """*callers* are of the tokens file in *settings*. ConfigError where the file of keys is not right."""
    header = f"Bearer {_SCHEME.sub('', token.strip(), count=1)}"
    try:
        caller = callers.caller(header, by_socket=False)
    except UnknownCaller:
        is_of_a_user = shows_a_jwt(header)
        return _user(header, settings) if is_of_a_user else _nobody(header, tokens=settings.tokens)
    lines = [f"the caller {caller.name}", f"scopes: {', '.join(sorted(caller.scopes))}"]
    if caller.made_at is not None:
        lines.append(f"made: {caller.made_at} by {caller.made_by}")
    return Whose(known=True, lines=tuple(lines))


def _nobody(header: str, *, tokens: Path | None) -> Whose:
    if tokens is None:
        why = "SIDECAR_TOKENS is not set, so no caller's token is known"
    else:
        why = f"no line of {tokens} has its hash: it was mistyped, taken out, or never added"
    ours = header.startswith(f"Bearer {TOKEN_PREFIX}")
    kind = "it has the form of a caller's token" if ours else "it is no JWT, and begins as no token of ours"
    return Whose(known=False, lines=("nobody's", f"{kind}; {why}"))


def _user(header: str, settings: Settings) -> Whose:
    identities = identities_of(settings)
    if identities is None:
        why = "it is a JWT, and SIDECAR_JWT_KEYS, _ISSUER and _AUDIENCE are not set: there are no end users"
        return Whose(known=False, lines=("nobody's", why))
    try:
        user = identities.user_if_signed(header)
        if (url := identities.keys_at) is None:
            user = identities.user(header, deadline=0.0)
    except UnknownUser as refused:
        claims = [
            f"it says {name}: {refused.unverified[name]}" for name in LOGGED if name in refused.unverified
        ]
        return Whose(known=False, lines=("nobody's", f"a JWT: {refused.detail}", *claims))
    if url is None:
        return Whose(known=True, lines=(f"the end user {user.id}", *_lines_about(user)))
    lines = (
        f"the end user {user.id}, if it is signed: that was not verified",
        *_lines_about(user),
        f"not asked: the keys are at {url}, and this command asks nobody",
    )
    return Whose(known=None, lines=lines)


def _lines_about(user: EndUser) -> tuple[str, ...]:
    email = (
        "none"
        if user.email is None
        else user.email + (", verified" if user.email_verified else ", not verified")
    )
    expires = datetime.fromtimestamp(float(str(user.claims["exp"])), UTC)
    return (
        f"email: {email}",
        f"expires: {expires:%Y-%m-%dT%H:%M:%SZ}",
        "whether they were deleted is in the database, which was not asked",
    )
