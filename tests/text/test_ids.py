from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from sidecar.text.ids import fresh_id, is_uuid


def test_ids_are_128_bits_in_hexadecimal_and_no_two_are_alike_in_any_thread():
    with ThreadPoolExecutor(4) as threads:
        ids = [
            id_
            for batch in threads.map(lambda _: [fresh_id() for _ in range(600)], range(8))
            for id_ in batch
        ]

    assert len(set(ids)) == len(ids) == 4_800
    assert all(re.fullmatch(r"[0-9a-f]{32}", id_) for id_ in ids)


def test_a_uuid_may_be_written_in_either_case():
    assert is_uuid(str(uuid4()))
    assert is_uuid(str(uuid4()).upper())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acme",
        "00000000000000000000000000000000",
        "{00000000-0000-0000-0000-000000000000}",
        "00000000-0000-0000-0000-00000000000g",
        "00000000-0000-0000-0000-00000000000\n",
        "00000000-0000-0000-0000-000000000000\n",
        "0000000-00000-0000-0000-000000000000",
        "٠0000000-0000-0000-0000-000000000000",  # noqa: RUF001 - a digit that is none here
    ],
)
def test_other_text_is_no_uuid(text):
    assert not is_uuid(text)
