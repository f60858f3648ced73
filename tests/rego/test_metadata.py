"""What the metadata in policies say, as the console shows it."""

from __future__ import annotations

import pytest

from sidecar.rego.metadata import annotations_in

POLICY = """\
# A comment.
# METADATA
# title: Of the package
# description: |
#   First line,
#   and more.
#
#   Another part.
# scope: subpackages
package custom # ours

# METADATA
# title: Nobody at night
# entrypoint: false
# custom:
#   off_until_declared: [country, device]
#   severity: 3
#   owner: {team: risk}

# why it is so
denials contains "night" if input.context.country == "XA"

# METADATA
# title: [not closed
denials contains `a "raw" one` if true

# METADATA
# title: Of a value
limit := {"a": 1}
"""


def test_each_block_is_told_with_the_rule_that_it_is_about_and_its_place():
    found = annotations_in({"custom/b.rego": POLICY})

    assert [(each.of, each.place, each.title) for each in found] == [
        ("package custom", "custom/b.rego:10", "Of the package"),
        ('denials contains "night"', "custom/b.rego:21", "Nobody at night"),
        ('denials contains `a "raw" one`', "custom/b.rego:25", ""),
        ("limit", "custom/b.rego:29", "Of a value"),
    ]


def test_paragraphs_stay_and_other_fields_are_in_one_line_each():
    package, rule, *_ = annotations_in({"custom/b.rego": POLICY})

    assert package.description == "First line,\nand more.\n\nAnother part."
    assert package.others == (("scope", "subpackages"),)
    assert rule.others == (
        ("entrypoint", "false"),
        ("custom", "off_until_declared: [country, device]; severity: 3; owner: team: risk"),
    )


def test_of_a_block_that_cannot_be_read_the_text_is_shown():
    assert annotations_in({"custom/b.rego": POLICY})[2].description == "title: [not closed"


@pytest.mark.parametrize("text", ["# METADATA\n# title: Of nothing\n", "package custom\n"])
def test_a_block_at_the_end_and_a_file_without_one_are_no_error(text):
    assert [each.of for each in annotations_in({"custom/b.rego": text})] in ([""], [])
