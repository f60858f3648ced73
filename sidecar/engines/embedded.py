r"""The policy engine inside the process: regopy, which is rego-cpp behind ctypes.

What it does differently from OPA, and what is done about it here:

- It cannot be interrupted. An evaluation runs to its end; a late answer is refused, but the caller has waited
  for it. So this engine is for trusted policies only.
- An interpreter shared by threads gives wrong answers: each thread builds its own and keeps it. A forked
  process builds its own as well. Nobody may fork while another thread evaluates: its allocator's lock would
  stay locked in the child.
- It has an allocator of its own, which libstdc++ uses too if regopy is what loads it. If anything else in C++
  was imported before (grpc; aiohttp under opa_client), they free each other's memory, which leaks 147 KB with
  each evaluation: so this module is imported first (`installed.import_first`).
- A rule like ``… with input as x`` about many situations at once ends the process (SIGABRT): they are asked
  one by one, at half a millisecond each.
- It reads its input as a Rego term, in which more is legal than JSON (``data.secret`` is a reference), and it
  never decodes escapes: the texts ``"\u00e9"`` and ``"é"`` differ to it. So it gets only JSON that we have
  written, in which each text has one form.
- What has to be escaped even there (quotes, backslashes, control characters) would count as two characters
  or more: ``endswith("a\n", "n")`` would be true. So each of them is mapped to one character of a private
  plane of Unicode, in input, data and policies alike, and mapped back in the answer.
- It writes errors to the process's standard output, unless told not to.
"""

from __future__ import annotations

import json
import os
import re
from threading import local
from time import monotonic
from typing import TYPE_CHECKING, Any

from regopy import Interpreter, LogLevel, RegoError, rego_version

from sidecar.engines.unbuilt import problems_of
from sidecar.engines.verdict import ENTRYPOINT, NOBODY, named_revision, verdict_from
from sidecar.errors import ConfigError, EngineMisbehaved, EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from regopy import Bundle

    from sidecar.decisions.model import Verdict

_ESCAPED = (*range(0x20), ord('"'), ord("\\"))
_STAND_IN = 0xF0000  # the first of a private plane
_AS_STAND_INS = {code: _STAND_IN + code for code in _ESCAPED}
_AS_THEY_ARE = {stand_in: code for code, stand_in in _AS_STAND_INS.items()}
_STAND_INS = re.compile(f"[{chr(_STAND_IN)}-{chr(_STAND_IN + max(_ESCAPED))}]")
_LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|#[^\n]*')


class EmbeddedEngine:
    name = "embedded"
    version: str = rego_version()

    def __init__(
        self,
        modules: Mapping[str, str],
        data: bytes,
        *,
        revision: str,
        rules: tuple[str, ...] = (ENTRYPOINT,),
    ) -> None:
        """*modules* is path → Rego, *data* the JSON of ``data``, *rules* are those that will be asked.

        ConfigError if they do not build.
        """
        self.revision = revision
        self._rules = rules
        self._of_this_thread = local()
        self._served: str | None = None
        try:
            self._modules = {
                path: _LITERAL.sub(_literal_as_we_write_it, rego) for path, rego in modules.items()
            }
            self._data = _as_we_write_it(data)
            self._loaded()
        except (RegoError, ValueError) as error:
            raise _unbuilt(error, modules) from error

    def verdict(self, situation: bytes, /, *, deadline: float) -> Verdict:
        """As decision_ports.PolicyEngine; but a slow evaluation returns late, with EngineUnavailable."""
        return verdict_from(self.document(ENTRYPOINT, situation, deadline=deadline), revision=self.revision)

    def verdicts(self, situations: Iterable[bytes], /, *, deadline: float) -> Iterator[tuple[bytes, Verdict]]:
        """Each situation with its verdict, in order and as they come; an error is raised in its place."""
        for situation in situations:
            yield situation, self.verdict(situation, deadline=deadline)

    def served_revision(self, *, deadline: float) -> str:
        """The revision in the policy data, whatever this process was started with; it cannot change."""
        if self._served is None:
            self._served = named_revision(self.document(ENTRYPOINT, NOBODY, deadline=deadline))
        return self._served

    def document(self, rule: str, given: bytes, /, *, deadline: float) -> object:
        """As decision_ports.RuleEngine says; *rule* is one of those that the engine was made with."""
        _refuse_if_late(deadline)
        try:
            text = _as_we_write_it(given)
            interpreter, bundle = self._loaded()
            interpreter.set_input_term(text)
            output = interpreter.query_bundle_entrypoint(bundle, _path_of(rule))
        except (RegoError, ValueError, RecursionError) as error:
            raise EngineMisbehaved(f"{rule} could not be evaluated: {error}") from error
        _refuse_if_late(deadline)

        if not output.ok():
            raise EngineMisbehaved(f"{rule} is in error: do two rules contradict each other?")
        match output.results:
            case [result] if result.expressions:
                return _each_text(result.expressions[0], _AS_THEY_ARE)
        raise EngineMisbehaved(f"{rule} is undefined: are policies and data complete?")

    def _loaded(self) -> tuple[Interpreter, Bundle]:
        """The interpreter of this thread and process, with its rules planned once."""
        process = os.getpid()
        loaded = getattr(self._of_this_thread, "loaded", None)
        if loaded is None or loaded[0] != process:
            interpreter = Interpreter()
            interpreter.log_level = LogLevel.NONE
            for path, rego in self._modules.items():
                interpreter.add_module(path, rego)
            interpreter.add_data_json(self._data)
            bundle = interpreter.build(None, [_path_of(rule) for rule in self._rules])
            loaded = self._of_this_thread.loaded = process, interpreter, bundle
        _, interpreter, bundle = loaded
        return interpreter, bundle


def _path_of(rule: str) -> str:
    return rule.removeprefix("data.").replace(".", "/")


def _as_we_write_it(document: bytes) -> str:
    """ValueError or RecursionError if *document* is not JSON, or holds what canonical JSON cannot."""
    value = json.loads(document)
    text = _canonical(value)
    _refuse_stand_ins(text)
    return _canonical(_each_text(value, _AS_STAND_INS)) if "\\" in text else text


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _refuse_stand_ins(text: str) -> None:
    if _STAND_INS.search(text):
        raise ValueError("a character of the private plane U+F0000, which stands for another one here")


def _literal_as_we_write_it(literal: re.Match[str]) -> str:
    text = literal[0]
    if text.startswith("#"):
        return text
    try:
        value = json.loads(text) if text.startswith('"') else text[1:-1]
    except ValueError:
        return text  # no text in Rego either: the engine says so
    _refuse_stand_ins(value)
    return json.dumps(value.translate(_AS_STAND_INS), ensure_ascii=False)


def _unbuilt(error: Exception, modules: Mapping[str, str]) -> ConfigError:
    problems = problems_of(str(error), modules, original=lambda path, at: _original_offset(modules[path], at))
    first = f"{problems[0].pointer}: {problems[0].detail}" if problems else str(error).splitlines()[0]
    return ConfigError(f"the policies do not build: {first}", problems=problems)


def _original_offset(rego: str, offset: int) -> int:
    """The place in *rego* of one in what was built of it, both in bytes: texts have got another length."""
    longer = 0
    for literal in _LITERAL.finditer(rego):
        start = len(rego[: literal.start()].encode())
        if start + longer >= offset:
            break
        longer += len(_literal_as_we_write_it(literal).encode()) - len(literal[0].encode())
    return max(offset - longer, 0)


def _each_text(value: Any, table: Mapping[int, int]) -> Any:  # noqa: ANN401 - JSON
    match value:
        case str():
            return value.translate(table)
        case list():
            return [_each_text(item, table) for item in value]
        case dict():
            return {_each_text(name, table): _each_text(item, table) for name, item in value.items()}
        case _:
            return value


def _refuse_if_late(deadline: float) -> None:
    if monotonic() >= deadline:
        raise EngineUnavailable("the embedded engine had no time left to answer")
