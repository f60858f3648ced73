"""Where policies deny, read from their text."""

from __future__ import annotations

from sidecar.rego.heads import Denials, code_of, looks_at_context
from sidecar.rego.load import modules_at
from sidecar.settings import shipped

SHIPPED = modules_at(shipped("policies"))


def test_each_reason_of_the_shipped_rules_has_a_head_where_it_is_said():
    denials = Denials(SHIPPED)

    for reason in ("not_a_member", "role_insufficient", "feature_not_in_plan", "quota_exceeded"):
        path, _, line = (denials.of(reason, None) or "").partition(":")
        assert SHIPPED[path].splitlines()[int(line) - 1].startswith(f'denials contains "{reason}"')
    assert denials.codes == ("recording_embargo",)
    assert (denials.of("denied_by_policy", "recording_embargo") or "").startswith("custom/embargo.rego:")


def test_a_head_in_a_comment_or_a_text_is_none():
    text = 'package custom\n# denials contains "a"\nx := "denials contains b" # denials contains "c"\n'

    assert Denials({"custom/x.rego": text}).codes == ()


def test_raw_and_escaped_codes_are_read_as_rego_does():
    text = 'package custom\n\ndenials contains `a\\b` if true\ndenials contains "\\u0061" if true\n'

    assert Denials({"custom/x.rego": text}).codes == ("a", "a\\b")


def test_a_code_that_is_computed_is_where_the_only_such_rule_is():
    rule = "denials contains code if some code in _codes\n"
    one = Denials({"custom/x.rego": f"package custom\n\n{rule}"})
    two = Denials({"custom/x.rego": f"package custom\n\n{rule}\n{rule}"})
    below = Denials({"custom/lib/x.rego": f"package custom.lib\n\n{rule}"})

    assert one.of("denied_by_policy", "anything") == "custom/x.rego:3"
    assert two.of("denied_by_policy", "anything") is None
    assert below.of("denied_by_policy", "anything") is None  # nobody asks it


def test_code_is_the_same_whatever_is_said_beside_it():
    text = 'package custom\n\n# no\ndenials contains "a # b" if true # yes\n'

    assert code_of(text) == 'package custom\ndenials contains "a # b" if true'
    assert not looks_at_context("package custom\n# input.context.mfa\n")
    assert looks_at_context('package custom\nx := input["context"].mfa\n')
