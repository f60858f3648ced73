"""Guards for Starlette and FastAPI: dependencies, decorators, and what a view can call inside.

The client blocks, so it runs in a thread: FastAPI starts one for a dependency that is not a coroutine, and a
decorated coroutine awaits one.
"""

from __future__ import annotations

from functools import wraps
from inspect import Parameter, Signature, iscoroutinefunction
from typing import TYPE_CHECKING, Any, overload

from anyio import CancelScope
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from sidecar.guard import requirement as required
from sidecar.guard.errors import GuardError
from sidecar.guard.limits import limit_fields
from sidecar.guard.problems import problem_reply
from sidecar.guard.requirement import Asker, Requirement
from sidecar.guard.stacking import Required, mark, stacked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from sidecar.guard.answers import Settled
    from sidecar.guard.client import Client
    from sidecar.guard.hold import Hold
    from sidecar.guard.requirement import Amounts, Given
    from sidecar.guard.workspace import CurrentWorkspace

    View = Callable[..., Any]

_LIMITS = "sidecar.limits"
_PATH_NAMES = ("workspace", "workspace_id")
_DENIAL_RESPONSE = "websocket.http.response"
_POLICY_VIOLATION = 1008


class Guard:
    """Like `sidecar.guard.Guard` for Flask; a value may be a function ``f(request)``."""

    def __init__(
        self,
        app: Starlette | None = None,
        *,
        client: Client,
        user: Callable[[HTTPConnection], str | None],
        workspace: Callable[[HTTPConnection], object] | None = None,
        membership: str = "role:member",
    ) -> None:
        """As for Flask; *user* and *workspace* get the request."""
        self._client = client
        self._user = user
        self._workspace = workspace or _named_in_the_request
        self.membership = membership
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Starlette) -> None:
        """Make *app* answer a guard's errors as problems. Call it before the app serves."""
        app.add_exception_handler(GuardError, _problem)  # type: ignore[arg-type] # given either
        app.add_middleware(_Limits)

    @property
    def require_workspace(self) -> Guarded:
        """The user is a member of the workspace of the request."""
        return Guarded(self, (Requirement(),))

    def require_role(self, *roles: str) -> Guarded:
        """The user has one of *roles*, or one that includes it."""
        return Guarded(self, (required.roles(roles),))

    def require_feature(self, feature: str) -> Guarded:
        return Guarded(self, (required.feature(feature),))

    def require(
        self,
        action: str,
        *,
        mode: str = "check",
        amounts: Amounts | None = None,
        resource: Given = None,
        context: Given = None,
        idempotency_key: Given = None,
        replays: str = "refuse",
        ratelimit: bool = False,
        **meters: Given,
    ) -> Guarded:
        """As for Flask; functions may read the path, the query and the headers, not the body."""
        return Guarded(
            self,
            (
                required.action(
                    action,
                    mode=mode,
                    amounts=amounts,
                    meters=meters,
                    resource=resource,
                    context=context,
                    idempotency_key=idempotency_key,
                    replays=replays,
                    shows_limits=ratelimit,
                ),
            ),
        )

    def reserve(
        self,
        request: HTTPConnection,
        action: str,
        *,
        amounts: Mapping[str, int] | None = None,
        ttl_s: int | None = None,
        idempotency_key: str | None = None,
        resource: str | None = None,
        context: Mapping[str, Any] | None = None,
        **meters: int,
    ) -> Holding:
        """``async with guard.reserve(request, …) as hold: … await hold.commit(minutes=12)``."""
        asker = self.asker(request)
        both = required.found_amounts({**(amounts or {}), **meters}, asker.found)

        def reserve() -> Hold:
            with required.names_declared():
                return asker.client.reserve(
                    action,
                    user=asker.user,
                    workspace=asker.workspace,
                    amounts=both,
                    ttl_s=ttl_s,
                    idempotency_key=idempotency_key,
                    resource=resource,
                    context=context,
                )

        return Holding(reserve)

    def asker(self, request: HTTPConnection) -> Asker:
        return Asker(
            client=self._client,
            user=required.named_user(self._user(request)),
            workspace=required.named_workspace(self._workspace(request)),
            idempotency_key=request.headers.get("Idempotency-Key"),
            found=lambda given: given(request) if callable(given) else given,
            membership=self.membership,
        )


class Guarded(Required):
    """What a guard requires. FastAPI: ``Depends(this)``. Starlette: ``@this``. In one call: ``this & that``.

    The workspace is what the dependency gives, and `request.state.workspace`.
    """

    # What FastAPI reads to know what to give: the request, or the websocket.
    __signature__ = Signature(
        [Parameter("request", Parameter.POSITIONAL_OR_KEYWORD, annotation=HTTPConnection)]
    )

    def __init__(self, guard: Guard, requirements: tuple[Requirement, ...]) -> None:
        super().__init__(guard, requirements)
        self._guard = guard

    def __and__(self, other: Guarded) -> Guarded:
        if other._guard is not self._guard:
            raise ValueError("what two guards require cannot be asked together")
        return Guarded(self._guard, required.joined(self.requirements, other.requirements))

    @overload
    def __call__(self, request: None = None) -> Guarded: ...
    @overload
    def __call__(self, request: HTTPConnection) -> CurrentWorkspace: ...
    @overload
    def __call__(self, request: View) -> View: ...
    def __call__(self, request: HTTPConnection | View | None = None) -> CurrentWorkspace | View | Guarded:
        """Given a request: the workspace, once all requirements hold. Given a view: the guarded view."""
        if request is None:
            return self
        if isinstance(request, HTTPConnection):
            return self._admit(request)
        return self._guarding(request)

    def _admit(self, request: HTTPConnection) -> CurrentWorkspace:
        workspace = required.admit(self.requirements, self._guard.asker(request))
        request.state.workspace = workspace
        shown = required.shown(self.requirements, workspace)
        if shown:
            request.scope.setdefault(_LIMITS, []).extend(limit_fields(shown))
        return workspace

    def _guarding(self, view: View) -> View:
        stack = stacked(self.requirements, view, guard=self._guard)
        all_of_it = Guarded(self._guard, stack.requirements)
        if iscoroutinefunction(stack.view):

            @wraps(stack.view)
            async def waiting(*args: object, **kwargs: object) -> Any:  # noqa: ANN401 - whatever the view returns
                await run_in_threadpool(all_of_it._admit, _request_in(args, kwargs))
                return await stack.view(*args, **kwargs)

            return mark(waiting, stack)

        @wraps(stack.view)
        def blocking(*args: object, **kwargs: object) -> Any:  # noqa: ANN401 - ditto
            all_of_it._admit(_request_in(args, kwargs))
            return stack.view(*args, **kwargs)

        return mark(blocking, stack)


class Holding:
    """A Hold in a coroutine."""

    def __init__(self, reserve: Callable[[], Hold]) -> None:
        self._reserve = reserve
        self._hold: Hold | None = None

    @property
    def hold(self) -> Hold:
        if self._hold is None:
            raise RuntimeError("nothing is held yet: async with guard.reserve(…) as hold")
        return self._hold

    async def commit(self, amounts: Mapping[str, int] | None = None, /, **meters: int) -> Settled:
        """As `Hold.commit`."""
        return await run_in_threadpool(self.hold.commit, amounts, **meters)

    async def release(self) -> Settled:
        return await run_in_threadpool(self.hold.release)

    async def __aenter__(self) -> Self:
        self._hold = await run_in_threadpool(self._reserve)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with CancelScope(shield=True):  # a client that disconnects has not used it either
            await run_in_threadpool(self.hold.__exit__, kind, error, trace)


class _Limits:
    """Adds the RateLimit header fields that a guard has stored in the scope to any response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields: list[tuple[str, str]] = scope.setdefault(_LIMITS, [])

        async def send_with_limits(message: Message) -> None:
            if fields and message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in fields]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        await self._app(scope, receive, send_with_limits)


async def _problem(request: HTTPConnection, error: Exception) -> Response | None:
    if not isinstance(error, GuardError):
        raise error
    status, headers, body = problem_reply(error, view=_view_of(request))
    response = Response(body, status_code=status, headers=headers)
    if not isinstance(request, WebSocket):
        return response
    if _DENIAL_RESPONSE in request.scope.get("extensions", {}):
        await request.send_denial_response(response)
    else:
        await request.close(_POLICY_VIOLATION)
    return None


def _view_of(request: HTTPConnection) -> str:
    """The name of its route, as `unguarded` lists it."""
    route, endpoint = request.scope.get("route"), request.scope.get("endpoint")
    name = getattr(route, "name", None) or getattr(endpoint, "__name__", None)
    return str(name or request.scope.get("path", ""))


def _request_in(args: tuple[object, ...], kwargs: Mapping[str, object]) -> HTTPConnection:
    for each in (*args, *kwargs.values()):
        if isinstance(each, HTTPConnection):
            return each
    raise TypeError("a guarded view takes the request: def view(request, …)")


def _named_in_the_request(request: HTTPConnection) -> object:
    parts = request.path_params
    in_path = next((parts[name] for name in _PATH_NAMES if name in parts), None)
    return required.the_one_of(in_path, request.headers.get("X-Workspace-Id"))
