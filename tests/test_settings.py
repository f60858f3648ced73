from __future__ import annotations

import pytest

from sidecar.errors import ConfigError
from sidecar.settings import Settings, is_loopback

URL = "postgresql://sidecar:secret-word@db/app"


NEEDED = {"SIDECAR_DATABASE_URL": URL, "SIDECAR_PLANS": "plans.yaml"}


def problems(**environ):
    with pytest.raises(ConfigError) as caught:
        Settings.from_environ({f"SIDECAR_{name.upper()}": value for name, value in environ.items()})
    return {problem.pointer: problem.detail for problem in caught.value.problems}


def test_reports_every_problem_at_once():
    found = problems(workers="0", threads="many", engine="prolog", bind="nowhere", opa_hsot="x", opa_ur="x")

    assert set(found) == {
        "SIDECAR_DATABASE_URL",
        "SIDECAR_PLANS",
        "SIDECAR_WORKERS",
        "SIDECAR_THREADS",
        "SIDECAR_ENGINE",
        "SIDECAR_BIND",
        "SIDECAR_OPA_HSOT",
        "SIDECAR_OPA_UR",
    }
    assert found["SIDECAR_OPA_UR"] == "is not a setting; did you mean SIDECAR_OPA_URL?"
    assert found["SIDECAR_WORKERS"] == "must be a whole number of processes from 1 to 256, got '0'"


def test_names_of_others_are_none_of_its_business():
    assert Settings.from_environ(NEEDED | {"PATH": "/bin"}).engine == "opa"


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("30min", 1800), ("2 h", 7200)])
def test_an_age_is_in_seconds_or_has_a_unit(text, seconds):
    environ = NEEDED | {"SIDECAR_DATABASE_CONNECTION_MAX_AGE": text}

    assert Settings.from_environ(environ).database_connection_max_age == seconds


@pytest.mark.parametrize("text", ["0", "30 m", "25h", "1.5h", "-1", "min", "999999999"])
def test_what_is_no_age_or_too_long_is_refused(text):
    assert "30min" in problems(database_connection_max_age=text)["SIDECAR_DATABASE_CONNECTION_MAX_AGE"]


@pytest.mark.parametrize("between", [" ", "\n", ",", ", ", "  \t"])
def test_urls_of_replicas_are_apart_where_the_next_begins(between):
    urls = (f"{URL}?passfile=/run/pass", "postgresql://u:p@one,two:5433/app", "postgres://three/app")
    settings = Settings.from_environ(NEEDED | {"SIDECAR_FACTS_URLS": between.join(urls)})

    assert settings.facts_urls == urls
    assert "secret-word" not in repr(settings)
    assert settings.facts_max_lag_ms == 100


@pytest.mark.parametrize("wrong", ["replica:5432", f"{URL} replica2", f"{URL} mysql://secret-word"])
def test_what_is_no_url_of_a_replica_is_refused_and_not_shown(wrong):
    found = problems(facts_urls=wrong, facts_max_lag_ms="5")

    assert found["SIDECAR_FACTS_URLS"] == ("must be URLs that start with postgresql://, with spaces between")
    assert found["SIDECAR_FACTS_MAX_LAG_MS"] == (
        "must be a whole number of milliseconds from 20 to 60000, got '5'"
    )


def test_an_empty_value_is_no_value():
    assert Settings.from_environ(NEEDED | {"SIDECAR_WORKERS": " "}).workers >= 1


def test_signing_secrets_of_stripe_are_a_list_and_never_shown():
    environ = NEEDED | {"SIDECAR_STRIPE_SECRETS": "whsec_one, whsec_two", "SIDECAR_STRIPE_LIVEMODE": "false"}
    settings = Settings.from_environ(environ)

    assert (settings.stripe_secrets, settings.stripe_livemode) == (("whsec_one", "whsec_two"), False)
    assert Settings.from_environ(NEEDED).stripe_livemode is True
    assert "whsec" not in repr(settings)


@pytest.mark.parametrize("wrong", ["whsec_one,", "whsec one", "sk_live_secret", "whsec_one,rk_test_secret"])
def test_what_is_no_signing_secret_of_stripe_is_refused_and_not_shown(wrong):
    found = problems(stripe_secrets=wrong, stripe_livemode="yes")

    assert "whsec_" in found["SIDECAR_STRIPE_SECRETS"]
    assert "secret" not in found["SIDECAR_STRIPE_SECRETS"].replace("signing secret", "")
    assert wrong not in found["SIDECAR_STRIPE_SECRETS"]
    assert found["SIDECAR_STRIPE_LIVEMODE"] == "must be true or false, got 'yes'"


def test_a_secret_is_neither_shown_nor_repeated():
    settings = Settings.from_environ(NEEDED)

    assert "secret-word" not in repr(settings)
    assert "secret-word" not in str(problems(database_url="mysql://secret-word"))


@pytest.mark.parametrize(
    "address", ["0.0.0.0:8080", "[::]:8080", "10.1.2.3:80", "sidecar.internal:80", "grpc://0.0.0.0:80"]
)
def test_refuses_to_start_open(address):
    assert (
        f"{address} can be reached"
        in problems(database_url=URL, plans="p", bind=f"127.0.0.1:1,{address}")["SIDECAR_BIND"]
    )


def test_starts_for_others_when_callers_have_tokens():
    environ = NEEDED | {"SIDECAR_BIND": "0.0.0.0:8080", "SIDECAR_TOKENS": "/etc/tokens"}

    assert Settings.from_environ(environ).bind == ("0.0.0.0:8080",)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:80",
        "127.1.2.3:80",
        "localhost:80",
        "[::1]:80",
        "unix:/run/sidecar.sock",
        "grpc://127.0.0.1:80",
    ],
)
def test_this_machine_is_loopback(address):
    assert is_loopback(address)


@pytest.mark.parametrize(
    "bind",
    [
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "unix:run",
        "a:1,,b:2",
        "a:1,grpc://b",
        "a:1,grpc://b/c:2",
        "a:1,http://b:2",
        "grpc://127.0.0.1:1",
    ],
)
def test_an_address_has_a_port_or_a_path(bind):
    assert "SIDECAR_BIND" in problems(database_url=URL, plans="p", bind=bind)


def test_addresses_for_grpc_stand_beside_those_for_http():
    bind = "127.0.0.1:1, grpc://127.0.0.1:2, unix:/run/s, grpc://[::1]:3"

    settings = Settings.from_environ(NEEDED | {"SIDECAR_BIND": bind})

    assert settings.http_bind == ["127.0.0.1:1", "unix:/run/s"]
    assert settings.grpc_bind == ["127.0.0.1:2", "[::1]:3"]


@pytest.mark.parametrize("bind", ["0.0.0.0:80", "127.0.0.1:80,10.1.2.3:80"])
def test_what_is_open_to_anybody_is_so_on_this_machine_alone(bind):
    environ = {"database_url": URL, "plans": "p", "bind": bind, "tokens": "/t", "authzen_policy": "/p"}

    assert "can be reached" in problems(**environ, authzen_anonymous="yes")["SIDECAR_AUTHZEN_ANONYMOUS"]


def test_our_own_workspaces_are_never_open_to_anybody():
    assert (
        "only with SIDECAR_AUTHZEN_POLICY"
        in (problems(database_url=URL, plans="p", authzen_anonymous="yes")["SIDECAR_AUTHZEN_ANONYMOUS"])
    )


def test_open_to_anybody_is_said_in_one_word():
    environ = NEEDED | {"SIDECAR_AUTHZEN_POLICY": "/p", "SIDECAR_AUTHZEN_ANONYMOUS": "yes"}

    assert Settings.from_environ(environ).authzen_anonymous is True
    assert Settings.from_environ(environ | {"SIDECAR_AUTHZEN_ANONYMOUS": "no"}).authzen_anonymous is False
    assert "SIDECAR_AUTHZEN_ANONYMOUS" in problems(database_url=URL, plans="p", authzen_anonymous="true")


@pytest.mark.parametrize("url", ["https://pdp.example.com", "https://h:8443", "https://h/tenant1"])
def test_an_identifier_is_an_https_url(url):
    assert Settings.from_environ(NEEDED | {"SIDECAR_AUTHZEN_URL": url}).authzen_url == url


@pytest.mark.parametrize(
    "url",
    ["http://h", "https://h/", "https://h/a/b", "https://h?x", "https://h#x", "https://u@h", "h", "https://"],
)
def test_what_is_no_identifier_is_refused(url):
    assert (
        "must be https://HOST"
        in problems(database_url=URL, plans="p", authzen_url=url)["SIDECAR_AUTHZEN_URL"]
    )


def test_the_deadline_is_in_seconds_for_those_who_wait():
    assert Settings(database_url=URL, deadline_ms=150).deadline_s == 0.15


@pytest.mark.parametrize(
    "keys",
    [
        "https://idp.example.com/.well-known/jwks.json",
        "https://idp.example.com:8443/keys?v=2",
        "http://127.0.0.1:9999/jwks.json",
        "http://localhost/jwks.json",
        "http://[::1]:80/jwks.json",
        "/etc/jwks.json",
        "hs256:/run/secrets/jwt",
    ],
)
def test_keys_are_a_url_a_file_or_a_secret(keys):
    environ = {"JWT_KEYS": keys, "JWT_ISSUER": "i", "JWT_AUDIENCE": "a"}
    settings = Settings.from_environ(NEEDED | {f"SIDECAR_{name}": value for name, value in environ.items()})

    assert (settings.jwt_keys, settings.jwt_issuer, settings.jwt_audience) == (keys, "i", "a")


@pytest.mark.parametrize(
    "keys",
    [
        "http://idp.example.com/jwks.json",
        "https://user:word@idp.example.com/jwks.json",
        "https://",
        "https:///jwks.json",
        "https://idp.example.com:99999/",
        "https://idp.example.com/a b",
        "https://[::1/",
        "ftp://idp.example.com/",
        "file:///etc/jwks.json",
        "jwks.json",
        "hs256:secret-word-in-the-setting",
    ],
)
def test_keys_that_anybody_could_put_there_are_refused(keys):
    found = problems(database_url=URL, plans="p", jwt_keys=keys, jwt_issuer="i", jwt_audience="a")

    assert list(found) == ["SIDECAR_JWT_KEYS"]
    assert "must be https://" in found["SIDECAR_JWT_KEYS"]
    assert "word" not in found["SIDECAR_JWT_KEYS"]


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"jwt_keys": "/keys"}, {"ISSUER": "KEYS", "AUDIENCE": "KEYS"}),
        ({"jwt_keys": "/keys", "jwt_issuer": "i"}, {"AUDIENCE": "KEYS"}),
        ({"jwt_keys": "/keys", "jwt_audience": "a"}, {"ISSUER": "KEYS"}),
        ({"jwt_issuer": "i"}, {"KEYS": "ISSUER", "AUDIENCE": "ISSUER"}),
        ({"jwt_audience": "a"}, {"KEYS": "AUDIENCE", "ISSUER": "AUDIENCE"}),
        ({"jwt_issuer": "i", "jwt_audience": "a"}, {"KEYS": "ISSUER"}),
    ],
)
def test_half_an_identity_provider_is_none(given, missing):
    assert problems(database_url=URL, plans="p", **given) == {
        f"SIDECAR_JWT_{name}": f"is required with SIDECAR_JWT_{there}" for name, there in missing.items()
    }


def test_origins_are_read_in_their_order_with_room_around_commas():
    settings = Settings.from_environ(
        NEEDED | {"SIDECAR_CORS_ORIGINS": "https://app.example.com, http://localhost:5173"}
    )

    assert settings.cors_origins == ("https://app.example.com", "http://localhost:5173")
    assert Settings.from_environ(NEEDED).cors_origins == ()


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        "https://a.example/",
        "https://a.example,*",
        "https://a.example,",
        ",",
        "http://localhost:*",
        "null",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused_and_shown(origins):
    found = problems(database_url=URL, plans="p", cors_origins=origins)["SIDECAR_CORS_ORIGINS"]

    assert found.startswith("must be origins as browsers send them")
    assert found.endswith(f"got {origins!r}")
