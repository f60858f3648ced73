"""What a generation of workers is made of, where an extra is missing."""

from __future__ import annotations

import sys

import pytest

from sidecar.errors import ConfigError
from sidecar.serving.loaded import STRIPE, load
from sidecar.settings import Settings, shipped


def test_secrets_of_stripe_without_its_library_are_a_configuration_error(monkeypatch):
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    monkeypatch.setitem(sys.modules, "stripe", None)
    monkeypatch.delitem(sys.modules, STRIPE, raising=False)
    settings = Settings(
        database_url="postgresql://sidecar@db/app",
        plans=shipped("plans.yaml"),
        engine="embedded",
        stripe_secrets=("whsec_x",),
    )

    with pytest.raises(ConfigError) as refused:
        load(settings)

    [problem] = refused.value.problems
    assert problem.pointer == "SIDECAR_STRIPE_SECRETS"
    assert problem.detail == "Stripe's events need the extra `stripe`: stripe is not installed"
