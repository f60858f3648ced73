"""The bundle: all that OPA needs, in the same bytes wherever it is made."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile

import pytest

from sidecar.rego.bundle import bundle
from sidecar.rego.compile import compiled
from sidecar.rego.load import catalog_at, modules_at
from tests.catalog.files import MODULES, ROOT, RULE, SHIPPED, sound
from tests.servers import opa

TEXT = SHIPPED.read_text()


def files_in(archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: (tar.extractfile(member) or io.BytesIO()).read() for member in tar}


def test_the_bundle_holds_manifest_data_and_policies():
    result = compiled(sound(TEXT), MODULES)
    files = files_in(bundle(result))

    assert list(files) == ["/.manifest", "/data.json", "/authz/decision.rego", "/custom/rules.rego"]
    assert json.loads(files["/.manifest"]) == {
        "revision": result.revision,
        "roots": ["authz", "custom"],
        "rego_version": 1,
    }
    assert files["/data.json"] == result.data
    assert files["/authz/decision.rego"].decode() == RULE


def test_a_bundle_larger_than_one_block_is_sound():
    padding = "\n".join(f"# line {number}" for number in range(20_000))
    result = compiled(sound(TEXT), MODULES | {"authz/more.rego": f"package authz\n{padding}\n"})
    archive = bundle(result)

    assert len(gzip.decompress(archive)) > 3 * 0xFFFF
    assert files_in(archive)["/authz/more.rego"].decode() == result.modules["authz/more.rego"]


def test_the_header_tells_nothing_of_time_name_and_system():
    assert bundle(compiled(sound(TEXT), MODULES))[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def test_the_bundle_is_the_same_wherever_it_is_made(tmp_path):
    program = (
        "import os, sys; os.umask(int(sys.argv[3], 8))\n"
        "from pathlib import Path\n"
        "from sidecar.rego.bundle import bundle\n"
        "from sidecar.rego.load import compiled_at\n"
        "sys.stdout.buffer.write(bundle(compiled_at(Path(sys.argv[1]), Path(sys.argv[2]))))\n"
    )
    made = set()
    for number, (zone, seed, umask, when, locale) in enumerate(
        [("UTC", "0", "022", 0, "C"), ("Pacific/Apia", "12345", "077", 10**9, "C.UTF-8")]
    ):
        folder = tmp_path / f"copy {number}"
        for path, text in sorted(MODULES.items(), reverse=bool(number)):
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            os.utime(file, (when, when))
        (folder / "plans.yaml").write_text(TEXT)
        environ = {
            "TZ": zone,
            "PYTHONHASHSEED": seed,
            "LC_ALL": locale,
            "PYTHONPATH": str(ROOT),
            "PATH": "/usr/bin:/bin",
        }
        command = [sys.executable, "-c", program, str(folder / "plans.yaml"), str(folder), umask]
        made.add(subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environ).stdout)

    assert made == {bundle(compiled(sound(TEXT), MODULES))}


def test_the_order_of_modules_is_not_part_of_the_bundle():
    backwards = dict(reversed(list(MODULES.items())))

    assert bundle(compiled(sound(TEXT), backwards)) == bundle(compiled(sound(TEXT), MODULES))


@pytest.mark.opa
def test_opa_answers_by_the_bundle(tmp_path):
    result = compiled(sound(TEXT), MODULES)
    (tmp_path / "bundle.tar.gz").write_bytes(bundle(result))
    run = opa("eval", "--bundle", tmp_path / "bundle.tar.gz", "--format=raw", "data.authz.decision")

    assert (run.stderr, json.loads(run.stdout)) == (
        "",
        {"revision": result.revision, "starter": {"members": 1, "minutes": 100, "scenarios": 10}},
    )


@pytest.mark.opa
def test_opa_loads_the_bundle_of_the_shipped_policies(tmp_path):
    result = compiled(catalog_at(SHIPPED), modules_at(ROOT / "policies"))
    (tmp_path / "bundle.tar.gz").write_bytes(bundle(result))
    query = "data.authz.decision.revision"
    run = opa("eval", "--bundle", tmp_path / "bundle.tar.gz", "--format=raw", query)

    assert (run.stderr, run.stdout.strip()) == ("", result.revision)
