r"""The policy engine inside the process: regopy, which is rego-cpp behind ctypes.

What it does differently from OPA, and what is done about it here:

- It cannot be interrupted. An evaluation that has begun runs to its end; a late answer is refused, but the
  caller has waited for it. So this engine is for policies that we wrote, not for those of strangers.
- An interpreter shared by threads gives wrong answers: each thread builds its own and keeps it.
- It reads its input as a Rego term, in which more is legal than JSON (``data.secret`` is a reference), and it
  never decodes escapes: the texts ``"\u00e9"`` and ``"é"`` differ to it. So only JSON that we have written
  ourselves gets in, where each text has one form.
- What has to be escaped even there (quotes, backslashes, control characters) still counts as two characters
  or more: ``endswith("a\n", "n")`` is true. Only context can bring such text to a rule; it is refused.
- It speaks on the process's standard output when something fails, unless told not to.
"""

from __future__ import annotations

import json
from threading import local
from time import monotonic
from typing import TYPE_CHECKING

from regopy import Interpreter, LogLevel, RegoError

from sidecar.engines.verdict import ENTRYPOINT, NOBODY, named_revision, verdict_from
from sidecar.errors import ConfigError, EngineMisbehaved, EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regopy import Bundle

    from sidecar.model import Verdict

_ENTRYPOINT_PATH = "authz/decision"
_ESCAPES_IN_CONTEXT = (
    "the embedded engine would misread a quote, a backslash or a control character in context:"
    " an OPA server would not (SIDECAR_ENGINE=opa)"
)


class EmbeddedEngine:
    name = "embedded"

    def __init__(self, modules: Mapping[str, str], data: bytes, *, revision: str) -> None:
        """*modules* is path → Rego, *data* the JSON of ``data``. ConfigError if they do not build."""
        self.revision = revision
        self._modules = dict(modules)
        self._of_this_thread = local()
        try:
            self._data = _as_we_write_it(data)
            self._loaded()
        except (RegoError, ValueError) as error:
            raise ConfigError(f"the policies do not build: {error}") from error

    def verdict(self, situation: bytes, /, *, deadline: float) -> Verdict:
        """As ports.PolicyEngine says; but a slow evaluation returns late, with EngineUnavailable."""
        return verdict_from(self._document(situation, deadline=deadline), revision=self.revision)

    def served_revision(self, *, deadline: float) -> str:
        """The revision in the policy data, whatever this process was started with."""
        return named_revision(self._document(NOBODY, deadline=deadline))

    def _document(self, situation: bytes, *, deadline: float) -> object:
        _refuse_if_late(deadline)
        try:
            text = _as_we_write_it(situation)
            if "\\" in text and '"context":' in text:
                raise EngineMisbehaved(_ESCAPES_IN_CONTEXT)
            interpreter, bundle = self._loaded()
            interpreter.set_input_term(text)
            output = interpreter.query_bundle_entrypoint(bundle, _ENTRYPOINT_PATH)
        except (RegoError, ValueError, RecursionError) as error:
            raise EngineMisbehaved(f"{ENTRYPOINT} could not be evaluated: {error}") from error
        _refuse_if_late(deadline)

        if not output.ok():
            raise EngineMisbehaved(f"{ENTRYPOINT} is in error: do two rules contradict each other?")
        match output.results:
            case [result] if result.expressions:
                return result.expressions[0]
        raise EngineMisbehaved(f"{ENTRYPOINT} is undefined: are policies and data complete?")

    def _loaded(self) -> tuple[Interpreter, Bundle]:
        """The interpreter of this thread, and the entrypoint that it has planned once and for all."""
        try:
            interpreter, bundle = self._of_this_thread.loaded
        except AttributeError:
            interpreter = Interpreter()
            interpreter.log_level = LogLevel.NONE
            for path, rego in self._modules.items():
                interpreter.add_module(path, rego)
            interpreter.add_data_json(self._data)
            bundle = interpreter.build(None, [_ENTRYPOINT_PATH])
            self._of_this_thread.loaded = interpreter, bundle
        return interpreter, bundle


def _as_we_write_it(document: bytes) -> str:
    """ValueError or RecursionError if *document* is not JSON, or holds what canonical JSON cannot."""
    return json.dumps(
        json.loads(document), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _refuse_if_late(deadline: float) -> None:
    if monotonic() >= deadline:
        raise EngineUnavailable("the embedded engine had no time left to answer")
