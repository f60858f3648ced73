from __future__ import annotations

import json
import os
from hashlib import sha256

import pytest

from sidecar.engines.kept import keep, kept_at
from sidecar.engines.verdict import verdict_from
from tests.engines.documents import REVISION, a_denial, a_grant
from tests.engines.test_verdict import GOOD

ENGINE = "embedded 1.2.3"
SITUATIONS = [
    json.dumps({"action": f"é{number}"}, ensure_ascii=False).encode() for number in range(len(GOOD))
]
VERDICTS = {
    situation: verdict_from(document, revision=REVISION)
    for situation, document in zip(SITUATIONS, GOOD, strict=True)
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "new folder" / "verdicts"
    keep(path, VERDICTS, engine=ENGINE, revision=REVISION)
    return path


def found_at(path, *, engine=ENGINE, revision=REVISION):
    return kept_at(path, engine=engine, revision=revision)


def written_to(path, content: bytes, *, digest: str | None = None) -> None:
    path.write_bytes((digest or sha256(content).hexdigest()).encode() + b"\n" + content)


def a_file(**other: object) -> bytes:
    verdicts = {"{}": a_grant()}
    document = {"format": 1, "engine": ENGINE, "revision": REVISION, "verdicts": verdicts, **other}
    return json.dumps(document).encode()


def test_what_is_kept_is_found_again(path):
    assert found_at(path) == VERDICTS


def test_it_is_for_our_eyes_only_and_leaves_nothing_beside_it(path):
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_it_is_replaced_and_not_added_to(path):
    some = {SITUATIONS[0]: VERDICTS[SITUATIONS[0]]}
    keep(path, some, engine=ENGINE, revision=REVISION)

    assert found_at(path) == some


@pytest.mark.parametrize(("engine", "revision"), [("embedded 1.2.4", REVISION), (ENGINE, "r2")])
def test_another_engine_or_revision_finds_nothing(path, engine, revision):
    assert found_at(path, engine=engine, revision=revision) == {}


def test_a_file_as_this_test_writes_it_is_believed(path):
    written_to(path, a_file())

    assert list(found_at(path)) == [b"{}"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        a_file(format=2),
        a_file(engine=None),
        a_file(verdicts=None),
        a_file(verdicts=[1]),
        a_file(verdicts={"{}": None}),
        a_file(verdicts={"{}": a_grant(allow=1)}),
        a_file(verdicts={"{}": a_denial(revision="r2")}),
        a_file(verdicts={"\ud800": a_grant()}),
    ],
    ids=lambda content: repr(content[-40:]),
)
def test_what_no_engine_says_is_not_believed_whatever_its_hash(path, content):
    written_to(path, content)

    assert found_at(path) == {}


def test_a_byte_that_has_changed_is_noticed(path):
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"minutes":100', b'"minutes":900', 1))

    assert path.read_bytes() != whole
    assert found_at(path) == {}


@pytest.mark.parametrize("length", [0, 10, 64, 65, 1_000, -1])
def test_half_a_file_is_none(path, length):
    path.write_bytes(path.read_bytes()[:length])

    assert found_at(path) == {}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_file_that_others_can_read_or_write_is_not_believed(path, mode):
    path.chmod(mode)

    assert found_at(path) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_believed(path):
    os.chown(path, 12_345, -1)

    assert found_at(path) == {}


def test_a_link_is_not_followed(path):
    link = path.with_name("link")
    link.symlink_to(path)

    assert found_at(link) == {}


def test_neither_a_folder_nor_a_pipe_nor_nothing_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)

    assert [found_at(tmp_path / name) for name in ("", "pipe", "none")] == [{}, {}, {}]


def test_a_file_that_is_too_long_is_not_read(path, monkeypatch):
    monkeypatch.setattr("sidecar.engines.kept._MAX_BYTES", path.stat().st_size - 1)

    assert found_at(path) == {}


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "something").mkdir(parents=True)

    for path in (tmp_path / "file" / "verdicts", tmp_path / "folder"):
        keep(path, VERDICTS, engine=ENGINE, revision=REVISION)

        assert f"the verdicts cannot be kept in {path}" in caplog.text
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder"]
