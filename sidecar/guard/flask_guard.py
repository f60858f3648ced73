"""Guards for Flask: decorators of views, and what a view can call inside.

The functions of this module use the guard that `init_app` has put into the running application.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import wraps
from typing import TYPE_CHECKING, Any, overload

from flask import Response, after_this_request, current_app, g, has_app_context, request

from sidecar.guard import requirement as required
from sidecar.guard.errors import GuardError
from sidecar.guard.limits import limit_fields
from sidecar.guard.problems import problem_reply
from sidecar.guard.requirement import Asker, Requirement
from sidecar.guard.stacking import mark, stacked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flask import Flask

    from sidecar.guard.client import Client
    from sidecar.guard.hold import Hold
    from sidecar.guard.requirement import Amounts, Given
    from sidecar.guard.stacking import Stack
    from sidecar.guard.workspace import CurrentWorkspace

    View = Callable[..., Any]
    Decorator = Callable[[View], View]

EXTENSION = "sidecar"
_PATH_NAMES = ("workspace", "workspace_id")
_NOT_CONFIGURED = "this application has no guard: call sidecar.guard.init_app(app, client=Client(…), user=…)"


class _Guards(ABC):
    """The decorators; *_guard* is the guard that checks a request."""

    @abstractmethod
    def _guard(self) -> Guard: ...

    @overload
    def require_workspace(self, view: View, /) -> View: ...
    @overload
    def require_workspace(self, view: None = None, /) -> Decorator: ...
    def require_workspace(self, view: View | None = None, /) -> View | Decorator:
        """The user is a member of the workspace of the request, which is then `g.workspace`."""
        decorator = self._decorator(Requirement())
        return decorator if view is None else decorator(view)

    def require_role(self, *roles: str) -> Decorator:
        """The user has one of *roles*, or one that includes it."""
        return self._decorator(required.roles(roles))

    def require_feature(self, feature: str) -> Decorator:
        return self._decorator(required.feature(feature))

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
    ) -> Decorator:
        """The user may perform *action*. With ``mode="consume"`` it takes amounts before the view begins.

        Every value may be a function without parameters that reads it from the request. The default for
        *idempotency_key* is the header Idempotency-Key. A duplicate, whose key has taken before, is refused;
        with ``replays="run"`` it reaches the view, which must be idempotent. With *ratelimit* the response
        has RateLimit header fields.
        """
        return self._decorator(
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
            )
        )

    def reserve(
        self,
        action: str,
        *,
        amounts: Mapping[str, int] | None = None,
        ttl_s: int | None = None,
        idempotency_key: str | None = None,
        resource: str | None = None,
        context: Mapping[str, Any] | None = None,
        **meters: int,
    ) -> Hold:
        """As `Client.reserve`, for the user and the workspace of the request."""
        asker = self._guard().asker()
        with required.names_declared():
            return asker.client.reserve(
                action,
                user=asker.user,
                workspace=asker.workspace,
                amounts=required.found_amounts({**(amounts or {}), **meters}, asker.found),
                ttl_s=ttl_s,
                idempotency_key=idempotency_key,
                resource=resource,
                context=context,
            )

    def _decorator(self, requirement: Requirement) -> Decorator:
        def decorator(view: View) -> View:
            return self._guarding(stacked((requirement,), view, guard=self))

        return decorator

    def _guarding(self, stack: Stack) -> View:
        @wraps(stack.view)
        def guarded(*args: object, **kwargs: object) -> Any:  # noqa: ANN401 - whatever the view returns
            self._guard().admit(stack.requirements)
            return current_app.ensure_sync(stack.view)(*args, **kwargs)

        return mark(guarded, stack)


class Guard(_Guards):
    def __init__(
        self,
        app: Flask | None = None,
        *,
        client: Client,
        user: Callable[[], str | None],
        workspace: Callable[[], object] | None = None,
        membership: str = "role:member",
    ) -> None:
        """*user* returns the user of the request, None where nobody has signed in.

        *workspace* returns the workspace of the request, by its id or slug; by default the path's
        ``workspace`` or ``workspace_id``, or the header X-Workspace-Id. *membership* is the action that
        `require_workspace` asks for where nothing else is required.
        """
        self._client = client
        self._user = user
        self._workspace = workspace or _named_in_the_request
        self.membership = membership
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Make this the guard of *app*: the one that the functions of `sidecar.guard` use."""
        if EXTENSION in app.extensions:
            raise RuntimeError("this application has a guard already; a second Guard needs no init_app")
        app.extensions[EXTENSION] = self
        app.register_error_handler(GuardError, _problem)

    def asker(self) -> Asker:
        return Asker(
            client=self._client,
            user=required.named_user(self._user()),
            workspace=required.named_workspace(self._workspace()),
            idempotency_key=request.headers.get("Idempotency-Key"),
            found=_found,
            membership=self.membership,
        )

    def admit(self, requirements: Sequence[Requirement]) -> CurrentWorkspace:
        """GuardError unless all *requirements* hold for the request. `g.workspace` is the workspace then."""
        workspace = required.admit(requirements, self.asker())
        g.workspace = workspace
        if shown := required.shown(requirements, workspace):
            _show_limits(limit_fields(shown))
        return workspace

    def _guard(self) -> Guard:
        return self


class _Configured(_Guards):
    def _guard(self) -> Guard:
        guard = current_app.extensions.get(EXTENSION) if has_app_context() else None
        if not isinstance(guard, Guard):
            raise RuntimeError(_NOT_CONFIGURED)  # noqa: TRY004 - it is missing, not of a wrong type
        return guard


def _named_in_the_request() -> object:
    parts = request.view_args or {}
    in_path = next((parts[name] for name in _PATH_NAMES if name in parts), None)
    return required.the_one_of(in_path, request.headers.get("X-Workspace-Id"))


def _found(given: Given) -> Any:  # noqa: ANN401 - of any kind
    return given() if callable(given) else given


def _problem(error: GuardError) -> Response:
    status, headers, body = problem_reply(error, view=request.endpoint or request.path)
    return Response(body, status=status, headers=headers)


def _show_limits(fields: list[tuple[str, str]]) -> None:
    @after_this_request
    def with_limits(response: Response) -> Response:
        for name, value in fields:
            response.headers.setdefault(name, value)
        return response


_configured = _Configured()
require_workspace = _configured.require_workspace
require_role = _configured.require_role
require_feature = _configured.require_feature
require = _configured.require
reserve = _configured.reserve


def init_app(
    app: Flask,
    *,
    client: Client,
    user: Callable[[], str | None],
    workspace: Callable[[], object] | None = None,
    membership: str = "role:member",
) -> Guard:
    """Give *app* its guard; the arguments are those of Guard."""
    return Guard(app, client=client, user=user, workspace=workspace, membership=membership)
