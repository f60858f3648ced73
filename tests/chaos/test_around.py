"""Whatever breaks around the processes: nobody is told what is not so, and it ends soon after."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chaos.around import FAULTS, HOURS, MINUTES, Surrounded
from tests.chaos.measured import assert_harmless
from tests.chaos.parts import Again, with_the_demo_world
from tests.chaos.surroundings import SurroundedPostgres, Surroundings
from tests.identity.provider import AUDIENCE, ISSUER, SECRET, bearer
from tests.postgres_server import a_server_folder
from tests.serving.names import a_name_server, asking_it
from tests.serving.serving import policies_that_read_ip, serving
from tests.store.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surrounded]:
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    folder: Path = tmp_path_factory.mktemp("around")
    policies = policies_that_read_ip(folder / "policies")
    log, secret = folder / "log", folder / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    with ExitStack() as stack:
        around = Surroundings(Path(stack.enter_context(a_server_folder())))
        names = stack.enter_context(a_name_server(place="127.0.0.54", two="127.0.0.2"))
        before = [*asking_it(folder, names), "env", *around.all_variables(disk=log)]
        disk = stack.enter_context(a_server_folder())
        server = stack.enter_context(Again(lambda: SurroundedPostgres(disk, around)))
        with_the_demo_world(server.it.url, policies)
        first = stack.enter_context(Proxy(server.it.url))
        second = stack.enter_context(Proxy(server.it.url, host="127.0.0.2", port=first.port))
        sidecar = stack.enter_context(
            Again(
                lambda: serving(
                    folder, workers=2, engine="embedded", policies=policies, before=before,
                    database_url=first.url.replace("@127.0.0.1", "@one.example,two.example"),
                    log_dir=log, log_sync="wait",
                    jwt_keys=f"hs256:{secret}", jwt_audience=AUDIENCE, jwt_issuer=ISSUER,
                )
            )
        )  # fmt: skip
        assert sidecar.it.until(sidecar.it.is_ready), sidecar.it.said
        yield Surrounded(
            port=sidecar.it.port,
            database=lambda: server.it.url,
            sidecar=sidecar,
            around=around,
            postgres=server,
            disk=disk,
            log=log,
            names=names,
            first=first,
            second=second,
        )


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_around_makes_no_answer_wrong_and_is_over_soon_after_it_ends(world, table, name):
    assert_harmless(world, name, FAULTS[name], table)


@pytest.mark.parametrize("seconds", [MINUTES, -MINUTES, HOURS, -HOURS])
def test_a_token_is_no_good_and_no_bad_one_while_the_clocks_do_not_agree_about_it(world, seconds):
    def asked(begins, ends, who="adam"):
        now = int(time.time())
        token = bearer(sub=who, iat=now + begins, exp=now + ends)
        status, answer = sidecar.request("GET", "/workspaces", headers={"Authorization": token})
        return status, answer.get("code")

    sidecar = world.sidecar.it
    assert sidecar.until(lambda: asked(0, 60) == (200, None), within_s=10)
    with world.around.clock_ahead(seconds):
        # By the sidecar's clock it has expired, or is still to begin; then both are sure.
        assert sidecar.until(lambda: asked(0, MINUTES // 2) == (503, "clock_skew"), within_s=5)
        assert asked(-3 * HOURS, 3 * HOURS) == (200, None)
        assert asked(-4 * HOURS, -3 * HOURS) == (401, "user_unauthenticated")
        if seconds < 0:  # it has expired, and the sidecar's clock does not know
            assert asked(seconds - MINUTES, -MINUTES // 2) == (503, "clock_skew")
    assert sidecar.until(lambda: asked(0, 60) == (200, None), within_s=10)
