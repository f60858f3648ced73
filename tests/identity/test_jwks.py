"""The provider's keys over real HTTP: new ones, old ones, and a provider that is slow, down or mad."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest

from sidecar.errors import IdentityUnavailable, UnknownUser
from sidecar.identity.jwks import LARGEST_ANSWER, NotKeys, Pace, RemoteKeys, answer_at
from sidecar.identity.users import Identities, key_set_in
from tests.identity.provider import AUDIENCE, ISSUER, a_jwk, a_provider, a_set, signed
from tests.servers import free_port


@pytest.fixture
def provider():
    with a_provider() as provider:
        yield provider


def identities(url, **pace):
    chosen = {"fresh_s": 300.0, "usable_s": 3_600.0, "pause_s": 0.0, "within_s": 2.0} | pace
    keys = RemoteKeys(url, read=key_set_in, pace=Pace(**chosen))
    return Identities(keys, audience=AUDIENCE, issuer=ISSUER)


def user(known, header=None, *, within_s=5.0):
    return known.user(header or signed(), deadline=monotonic() + within_s)


def until(holds, within_s=10.0):
    ending = monotonic() + within_s
    while not holds() and monotonic() < ending:
        time.sleep(0.01)
    return holds()


def hangs(provider):
    def answer(_):
        provider.stopping.wait(30)

    return answer


def test_the_first_user_waits_for_the_keys_and_the_next_does_not(provider):
    known = identities(provider.url)

    assert user(known).id == "adam"
    for number in range(20):
        assert user(known, signed(sub=f"user-{number}")).id == f"user-{number}"
    assert provider.asked == 1


def test_a_worker_fetches_before_anybody_asks(provider):
    known = identities(provider.url)
    known.start()

    assert until(lambda: provider.asked == 1)
    assert user(known).id == "adam"
    assert provider.asked == 1


def test_a_new_key_is_looked_for_when_a_token_names_it(provider):
    known = identities(provider.url)
    user(known)
    provider.answer = a_set(a_jwk(), a_jwk("RS256", "two"))

    assert user(known, signed("RS256", "two")).id == "adam"
    assert user(known).id == "adam"
    assert provider.asked == 2


def test_a_key_that_is_published_no_more_is_good_no_more(provider):
    known = identities(provider.url)
    user(known)
    provider.answer = a_set(a_jwk("RS256", "two"))
    user(known, signed("RS256", "two"))

    with pytest.raises(UnknownUser):
        user(known)


def test_old_keys_are_looked_at_again_while_they_serve(provider):
    known = identities(provider.url, fresh_s=0.0)
    user(known)
    asked = provider.asked
    provider.answer = hangs(provider)

    began = monotonic()
    assert user(known, signed(sub="mia")).id == "mia"
    assert monotonic() - began < 1.5
    assert until(lambda: provider.asked > asked)


def test_made_up_keys_do_not_hammer_the_provider(provider):
    known = identities(provider.url, pause_s=60.0)
    user(known)

    for number in range(50):
        with pytest.raises(UnknownUser):
            user(known, signed(kid=f"junk-{number}"))
    assert provider.asked == 1


def test_many_threads_fetch_once(provider):
    def slow(handler):
        time.sleep(0.2)
        provider_says(handler)

    def provider_says(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(a_set(a_jwk()))

    provider.answer = slow
    known = identities(provider.url, pause_s=60.0)

    def ask(number):
        try:
            return user(known, signed(sub=f"user-{number}")).id
        except IdentityUnavailable:
            return None

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))

    assert provider.asked == 1
    assert sum(answer is not None for answer in answers) >= 1
    assert user(known).id == "adam"


def test_a_request_waits_until_its_own_deadline_and_few_wait_at_all(provider):
    provider.answer = hangs(provider)
    known = identities(provider.url, within_s=20.0)

    def ask(_):
        began = monotonic()
        with pytest.raises(IdentityUnavailable):
            user(known, within_s=0.5)
        return monotonic() - began

    with ThreadPoolExecutor(8) as pool:
        waited = sorted(pool.map(ask, range(8)))

    assert waited[-1] < 5.0
    assert sum(each > 0.4 for each in waited) <= 2


def test_whether_an_unknown_key_is_new_cannot_be_said_while_the_provider_is_down(provider):
    known = identities(provider.url)
    user(known)
    provider.answer, provider.status = b"down", 503

    with pytest.raises(IdentityUnavailable):
        user(known, signed(kid="two"))
    assert user(known).id == "adam"


def test_keys_are_usable_for_a_while_without_the_provider_and_then_no_more(provider, monkeypatch):
    known = identities(provider.url, usable_s=100.0, fresh_s=50.0)
    user(known)
    provider.status = 500
    now = monotonic()
    ahead = 0.0
    monkeypatch.setattr("sidecar.identity.jwks.monotonic", lambda: monotonic() + ahead)

    ahead = 99.0 - (monotonic() - now)
    assert user(known, signed(sub="mia")).id == "mia"
    ahead = 101.0
    with pytest.raises(IdentityUnavailable):
        known.user(signed(), deadline=monotonic() + ahead + 5)

    provider.status = 200
    assert known.user(signed(), deadline=monotonic() + ahead + 5).id == "adam"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"[]", "no list of keys"),
        (a_set(), "no key for RS256"),
        (a_set({"kty": "oct", "k": "AAAA"}), "no key for RS256"),
        (b" " * (LARGEST_ANSWER + 1), "more than 262144 bytes"),
        (b"[" * 200_000, "not JSON"),
    ],
)
def test_junk_is_an_outage_and_leaves_the_keys_as_they_were(provider, answer, says):
    known = identities(provider.url)
    good, provider.answer = provider.answer, answer
    with pytest.raises(IdentityUnavailable, match=says):
        user(known)

    provider.answer = good
    user(known)
    provider.answer = answer
    with pytest.raises(IdentityUnavailable, match=says):
        user(known, signed(kid="two"))
    assert user(known).id == "adam"


@pytest.mark.parametrize("status", [204, 301, 302, 307, 401, 404, 429, 500, 503])
def test_only_200_is_an_answer(provider, status):
    provider.status = status

    with pytest.raises(NotKeys, match=f"answered {status}"):
        answer_at(provider.url, within_s=5)
    assert provider.asked == 1


def test_nobody_there():
    with pytest.raises(NotKeys, match="no answer"):
        answer_at(f"http://127.0.0.1:{free_port()}/", within_s=5)
    with pytest.raises(NotKeys, match="no answer"):
        answer_at("http://nowhere.invalid/", within_s=5)


def test_an_answer_by_drops_ends_when_its_time_is_over(provider):
    def drips(handler):
        handler.send_response(200)
        handler.end_headers()
        while not provider.stopping.wait(0.05):
            handler.wfile.write(b" ")

    provider.answer = drips
    began = monotonic()

    with pytest.raises(NotKeys):
        key_set_in(answer_at(provider.url, within_s=0.5))
    assert monotonic() - began < 5.0


def test_a_head_by_drops_ends_when_its_time_is_over():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip():
            connection, _ = listener.accept()
            with connection:
                try:
                    while True:
                        connection.sendall(b"H")
                        time.sleep(0.05)
                except OSError:
                    pass

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        began = monotonic()

        with pytest.raises(NotKeys):
            answer_at(f"http://127.0.0.1:{listener.getsockname()[1]}/", within_s=0.5)
        assert monotonic() - began < 5.0
        dripping.join(10)


def test_an_answer_that_breaks_off_is_none(provider):
    def breaks_off(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "10000")
        handler.end_headers()
        handler.wfile.write(a_set(a_jwk())[:50])

    provider.answer = breaks_off

    with pytest.raises(NotKeys):
        key_set_in(answer_at(provider.url, within_s=5))


def test_it_heals_by_itself(provider):
    known = identities(provider.url, within_s=0.3)
    good, provider.answer = provider.answer, hangs(provider)
    with pytest.raises(IdentityUnavailable):
        user(known, within_s=0.1)
    provider.answer = good

    def knows():
        try:
            return user(known).id == "adam"
        except IdentityUnavailable:
            return False

    assert until(knows)


def test_a_provider_that_goes_is_one_line_and_one_when_it_is_back(provider, caplog):
    caplog.set_level("INFO", logger="sidecar")
    known = identities(provider.url, fresh_s=0.0)
    good = provider.answer
    user(known)
    for answer in (b"<html>", b"<html>", good, good):
        asked, provider.answer = provider.asked, answer
        user(known)
        assert until(lambda asked=asked: provider.asked > asked)
        time.sleep(0.05)  # until the answer is looked at

    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.records[-1].getMessage().endswith("are there again")
