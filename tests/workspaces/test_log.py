"""What the decision log tells of people: never an e-mail address, however it came in."""

from __future__ import annotations

import json

import pytest

from tests.api.stage import OPS
from tests.workspaces.stage import PORTAL

pytestmark = pytest.mark.postgres

ADDRESS = "Zoe.Adress@example.com"
FORMS = ("adress@", "adress%40", "example.com")


def test_no_line_of_the_log_has_an_address(stage):
    shop = stage.workspace(owner="nora")
    invite = f"/workspaces/{shop}/invite"
    known = {"Authorization": f"Bearer {OPS}"}
    stage.lines.clear()

    token = stage.invited("nora", shop, ADDRESS)["token"]
    answers = [
        stage.accept("eve", token),
        stage.accept("zoe-of-log", token, email=ADDRESS),
        stage.post("nora", invite, {"email": ADDRESS, "role": "member"}),
        stage.post("nora", invite, {"email": f"{ADDRESS} {ADDRESS}", "role": "member"}),
        stage.post("nora", invite, {"email": ADDRESS, "role": ADDRESS}),
        stage.post("nora", invite, {"email": ADDRESS, "role": "member", ADDRESS: ADDRESS}),
        stage.get("nora", f"/workspaces/{shop}/members"),
        stage.client.get(f"/v1/workspaces?q={ADDRESS}", headers=known),
        stage.client.get(f"/v1/workspaces?limit={ADDRESS}", headers=known),
        *(
            stage.client.get(
                "/workspaces",
                headers={
                    "Authorization": f"Bearer {PORTAL}",
                    "X-Act-As": "zoe-of-log",
                    "X-Act-As-Email": email,
                },
            )
            for email in (ADDRESS, f"{ADDRESS}@")
        ),
    ]

    statuses = [answer.status_code for answer in answers]
    assert statuses == [404, 200, 409, 400, 400, 400, 200, 200, 400, 200, 400]
    assert len(stage.lines) > len(answers) / 2
    told = json.dumps(list(stage.lines)).lower()
    assert [form for form in FORMS if form in told] == []
