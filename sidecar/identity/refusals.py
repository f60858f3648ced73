"""Why an end user's token was refused, for the log: of the token itself no more than what is named here."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING, Any

import jwt
from jwt.exceptions import InvalidSubjectError

from sidecar.errors import BadQuestion
from sidecar.text.encoding import document_from

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGGED = ("iss", "aud", "sub", "exp")
_LONGEST = 200  # characters of a value
_LARGEST = 2**53  # of a number that every reader of JSON can hold


def document_in(part: str) -> Any:  # noqa: ANN401 - JSON
    """What one part of a token holds. ValueError where that is not JSON."""
    try:
        return document_from(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except BadQuestion as error:
        raise ValueError(error.detail) from error


def unverified_claims(part: str) -> dict[str, str | int]:
    """What a token claims of `LOGGED`, each cut; nothing where *part* holds no claims."""
    try:
        claims = document_in(part)
    except ValueError:
        return {}
    return (
        {name: _shown(claims[name]) for name in LOGGED if name in claims} if isinstance(claims, dict) else {}
    )


def why_not_valid(
    error: jwt.PyJWTError, claims: Mapping[str, Any], *, audience: str, issuer: str | None
) -> str:
    """Why the library refuses a token that a key of ours has signed."""
    match error:
        case jwt.MissingRequiredClaimError():
            expected = {"aud": f", expected {audience}", "iss": f", expected {issuer}"}
            return f"{error.claim} is missing{expected.get(error.claim, '')}"
        case jwt.InvalidAudienceError():
            return f"aud is {_listed(claims.get('aud'))}, expected {audience}"
        case jwt.InvalidIssuerError():
            return f"iss is {_shown(claims.get('iss'))}, expected {issuer}"
        case jwt.ExpiredSignatureError():
            return f"exp is {_shown(claims.get('exp'))}, and it is {int(time.time())}: it has expired"
        case jwt.ImmatureSignatureError():
            return "iat or nbf is still to come"
        case InvalidSubjectError():
            return "sub is no text"
        case _:
            return f"it is no JWT that is taken ({type(error).__name__})"


def _listed(audiences: object) -> str:
    """As a list, whether one or several are named."""
    several = audiences if isinstance(audiences, list) else [audiences]
    return f"[{', '.join(str(_shown(each)) for each in several)}]"[:_LONGEST]


def _shown(value: object) -> str | int:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        return value
    text = (
        value if isinstance(value, str) else _listed(value) if isinstance(value, list) else json.dumps(value)
    )
    return text[:_LONGEST].encode(errors="backslashreplace").decode()
