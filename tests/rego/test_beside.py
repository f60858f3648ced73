"""Two revisions in one OPA: each answers under its own name as it did under the plain one."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from sidecar.errors import ConfigError
from sidecar.rego.authzen import authzen_policy
from sidecar.rego.beside import authzen_beside, beside, besides_in, moved_text, own_ref
from sidecar.rego.bundle import bundle, served_bundle
from sidecar.rego.compile import compiled
from sidecar.rego.kept import kept
from sidecar.rego.lint import problems_in
from sidecar.rego.load import catalog_at, modules_at
from tests.catalog.files import MODULES, ROOT, SHIPPED, sound
from tests.servers import opa

TEXT = SHIPPED.read_text()
OLD = compiled(sound(TEXT), modules_at(ROOT / "policies"))
NEW = compiled(sound(TEXT.replace("price: 149", "price: 150")), modules_at(ROOT / "policies"))
OF_NO_ROOT = '\nx := "data.authz" # data.authz\ny := input.data.authz\nz := `data.custom`'
WAY = 'authz.revisions["r"]'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("package authz", f"package {WAY}.authz"),
        ("# of package authz\npackage custom.a", f"# of package authz\npackage {WAY}.custom.a"),
        ("package custom\nx := data.authz.plans", f"package {WAY}.custom\nx := data.{WAY}.authz.plans"),
        (
            "package custom\nimport data.authz.plans as p",
            f"package {WAY}.custom\nimport data.{WAY}.authz.plans as p",
        ),
        ('package custom\nx := data["authz"].a', f'package {WAY}.custom\nx := data.{WAY}["authz"].a'),
        ("package custom\nx := data . custom.a", f"package {WAY}.custom\nx := data . {WAY}.custom.a"),
        (
            f"package custom{OF_NO_ROOT}",
            f"package {WAY}.custom{OF_NO_ROOT}",
        ),
        ("package authzen\nx := data.authzen.y", f"package {WAY}.authzen\nx := data.{WAY}.authzen.y"),
        ("package custom\nx := data.customer", f"package {WAY}.custom\nx := data.customer"),
    ],
)
def test_only_the_package_and_references_to_our_roots_move(before, after):
    assert moved_text(before, revision="r") == after


def test_what_is_not_rego_is_refused_with_its_place():
    with pytest.raises(ConfigError) as refused:
        moved_text("package custom\n\nx := 'a'", revision="r", path="custom/a.rego")

    assert refused.value.problems[0].pointer == "custom/a.rego:3"


@pytest.mark.opa
def test_a_bundle_of_two_answers_by_each_and_plainly_by_the_newest(tmp_path):
    (tmp_path / "b.tar.gz").write_bytes(served_bundle(NEW, before=[beside(OLD)]))
    situation: dict[str, object] = {
        "action": "recording.start",
        "plan": "team",
        "role": "admin",
        "status": "active",
    }
    situation |= {"room": {"fits_in": [], "waiting_helps": False}, "overrides": {"features": {}}}
    names = [own_ref("data.authz.decision", OLD.revision), own_ref("data.authz.decision", NEW.revision)]
    query = "[data.authz.decision, " + ", ".join(names) + "]"

    run = opa(
        "eval",
        "--bundle",
        tmp_path / "b.tar.gz",
        "--stdin-input",
        "--format=raw",
        query,
        stdin=json.dumps(situation),
    )
    plain, old, new = json.loads(run.stdout)

    assert [each["revision"] for each in (plain, old, new)] == [NEW.revision, OLD.revision, NEW.revision]
    assert plain == new
    assert old | {"revision": NEW.revision} == new


@pytest.mark.opa
def test_the_moved_policies_say_the_same_as_the_plain_ones_in_their_own_tests_inputs(tmp_path):
    """A rule of the company's own denies by its own revision, and not by another's."""
    denying = 'package custom\n\ndenials contains "nobody" if data.authz.plans.revision\n'
    own = compiled(sound(TEXT), modules_at(ROOT / "policies") | {"custom/nobody.rego": denying})
    (tmp_path / "b.tar.gz").write_bytes(served_bundle(own, before=[beside(OLD)]))
    query = (
        f"[{own_ref('data.custom.denials', own.revision)}, {own_ref('data.custom.denials', OLD.revision)},"
        " data.custom.denials]"
    )

    run = opa("eval", "--bundle", tmp_path / "b.tar.gz", "--format=raw", query)

    assert (run.stderr, json.loads(run.stdout)) == ("", [["nobody"], [], ["nobody"]])


def test_what_a_bundle_answers_by_besides_a_new_revision_is_found_in_it():
    alone, two = served_bundle(OLD), served_bundle(NEW, before=[beside(OLD)])

    assert besides_in(alone, new={OLD.revision}, source="b") == []
    assert besides_in(alone, new={NEW.revision}, source="b") == [beside(OLD)]
    assert besides_in(bundle(OLD), new={NEW.revision}, source="b") == [beside(OLD)]  # of a version before
    assert besides_in(two, new={NEW.revision}, source="b") == [beside(OLD)]
    assert besides_in(two, new={"another"}, source="b") == [beside(NEW)]
    for content in (b"no tar", bundle(OLD).replace(b'"plans"', b'"plants"')):
        with pytest.raises(ConfigError):
            besides_in(content, new={"r"}, source="b")


def another_domain(owner):
    """A policy that refers to itself in each way, and to data."""
    return authzen_policy(
        {
            "policy.rego": (
                "package authzen\n\nimport data.authzen.deep as d\n\ndefault decision := false\n\n"
                "decision if d.owners[input.resource.id] == input.subject.id\n\n"
                'decision if data["authzen"].admins[_] == input.subject.id\n'
            ),
            "deep/owners.rego": "package authzen.deep\n\nowners := data.authzen.of\n",
        },
        {"of": {"1": owner}, "admins": ["root"]},
    )


ALICES, BOBS, CAROLS = map(another_domain, ("alice", "bob", "carol"))


def answers_by(file, subject):
    """What OPA says plainly, and by the names of each of the three."""
    rule = ALICES.rules["decision"]
    names = [own_ref(rule, each.revision) for each in (ALICES, BOBS, CAROLS)]
    query = "[{x | x := " + "}, {x | x := ".join([rule, *names]) + "}]"
    given = json.dumps({"subject": {"id": subject}, "resource": {"id": "1"}})
    run = opa("eval", "--bundle", file, "--stdin-input", "--format=raw", query, stdin=given)
    found = [(each[0]["revision"], each[0]["answer"]) if each else None for each in json.loads(run.stdout)]
    return run.stderr, found


@pytest.mark.opa
@pytest.mark.parametrize(("subject", "expected"), [("alice", (True, False)), ("root", (True, True))])
def test_two_revisions_of_another_domains_policy_answer_each_by_its_own_name(tmp_path, subject, expected):
    file = tmp_path / "b.tar.gz"
    file.write_bytes(served_bundle(NEW, BOBS, before=[beside(NEW), authzen_beside(ALICES)]))
    of_alice, of_bob = expected

    stderr, (plain, alices, bobs, carols) = answers_by(file, subject)

    assert stderr == ""
    assert alices == (ALICES.revision, of_alice)
    assert plain == (BOBS.revision, of_bob)
    assert (bobs, carols) == (None, None), "the newest has the plain name alone: its data is not there twice"


def test_what_another_domain_was_answered_by_is_found_in_a_bundle_too():
    before = [beside(OLD), authzen_beside(ALICES)]
    one, two = served_bundle(OLD, ALICES), served_bundle(NEW, BOBS, before=before)

    def found(content, *new):
        besides = besides_in(content, new={each.revision for each in new}, source="b")
        return sorted(besides, key=lambda each: each.revision not in {OLD.revision, NEW.revision})

    assert found(one, NEW, BOBS) == found(two, NEW, BOBS) == before
    assert found(two, NEW, CAROLS) == [beside(OLD), authzen_beside(BOBS)]
    assert found(one, OLD, BOBS) == [authzen_beside(ALICES)]
    assert found(one, OLD, ALICES) == []
    assert kept(two, plans=None, revision=NEW.revision, source="b").revision == NEW.revision


def test_one_revision_twice_is_there_once():
    assert served_bundle(OLD, before=[beside(OLD)]) == served_bundle(OLD)


def test_a_bundle_with_names_of_revisions_is_kept_as_one_without():
    two = served_bundle(NEW, before=[beside(OLD)])

    assert kept(two, plans=None, revision=NEW.revision, source="b").modules == dict(NEW.modules)
    with tarfile.open(fileobj=io.BytesIO(two)) as archive:
        assert json.loads((archive.extractfile("/.manifest") or io.BytesIO()).read())["roots"] == [
            "authz",
            "custom",
        ]


def test_nobody_else_takes_the_place_of_the_revisions():
    rule = {"authz/decision.rego": "package authz\n\nrevisions := 1\n"}
    folder = {"authz/revisions/a.rego": "package authz.revisions\n"}

    assert [each.code for each in problems_in(MODULES | rule, folder="p")] == ["reserved_name"]
    assert [each.code for each in problems_in(MODULES | folder, folder="p")] == ["reserved_name"]


def test_the_catalog_of_these_tests_is_the_shipped_one():
    assert (
        OLD.revision == compiled(catalog_at(SHIPPED), modules_at(ROOT / "policies")).revision != NEW.revision
    )
