"""For which user an end users' route is asked: who shows a JWT, or whom a backend acts for."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from sidecar.api.advice import which_scope
from sidecar.api.service import deadline_of
from sidecar.errors import CallerForbidden, NotServed, Problem, UnknownCaller
from sidecar.identity.users import EndUser, shows_a_jwt
from sidecar.text import shapes
from sidecar.text.emails import LONGEST_EMAIL, is_email

if TYPE_CHECKING:
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.errors import BadQuestion

SCOPE = "people"
ACT_AS, ACT_AS_EMAIL = "X-Act-As", "X-Act-As-Email"


def user_of(service: Service, request: Request) -> EndUser:
    """Who asks. With X-Act-As it is whom that names, and the request's caller acts for them.

    UnknownUser for who shows no good JWT; UnknownCaller, CallerForbidden or BadQuestion for who may not act
    for others or does not say for whom; NotServed where neither is possible.
    """
    named = [name for name in (ACT_AS, ACT_AS_EMAIL) if request.header(name) is not None]
    if named:
        return _acted_for(request, named)
    if service.identities is not None:
        return service.identities.user(
            request.header("Authorization"), deadline=deadline_of(service, request)
        )
    if request.caller is not None and SCOPE in request.caller.scopes:
        raise _refusal(ACT_AS, "is required: it says for which user you act")
    raise NotServed


def callers_act(service: Service) -> bool:
    """Whether there is a caller who may act for users."""
    return any(SCOPE in each.scopes for each in service.callers.known)


def _acted_for(request: Request, named: list[str]) -> EndUser:
    _refuse_without_right(request)
    for name in named:
        if name.lower() in request.repeated:
            raise _refusal(name, "is there more than once")
    if ACT_AS not in named:
        raise _refusal(ACT_AS, f"is required with {ACT_AS_EMAIL}")
    user = _text_of(request, ACT_AS, longest=shapes.LONGEST_TEXT)
    email = None
    if ACT_AS_EMAIL in named:
        email = _text_of(request, ACT_AS_EMAIL, longest=LONGEST_EMAIL)
        if not is_email(email):
            raise _refusal(ACT_AS_EMAIL, f"must be an e-mail address, got {shapes.shown(email)}")
    return EndUser(id=user, email=email, email_verified=email is not None, claims=MappingProxyType({}))


def _refuse_without_right(request: Request) -> None:
    """Unless the caller may act for users. Whoever shows a user's own token is nobody's backend."""
    if request.caller is None:
        if shows_a_jwt(request.header("Authorization")):
            raise _refusal(ACT_AS, "stands beside a user's own token: send that, or a caller token and this")
        raise request.refused or UnknownCaller()
    if SCOPE not in request.caller.scopes:
        raise CallerForbidden(which_scope(SCOPE))


def _text_of(request: Request, name: str, *, longest: int) -> str:
    """In UTF-8, as HTTP itself does not say."""
    try:
        text = (request.header(name) or "").encode("latin-1").decode()
    except UnicodeError:
        raise _refusal(name, "is not UTF-8") from None
    if fault := shapes.fault_in_text(text, longest=longest):
        raise _refusal(name, fault)
    return text


def _refusal(name: str, detail: str) -> BadQuestion:
    return shapes.refusal((Problem(pointer=f"/header/{name}", detail=detail),))
