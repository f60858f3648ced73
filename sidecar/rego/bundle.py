"""The file that OPA loads: compiled policies and their data, with those of another domain if there is one."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

from sidecar.rego.beside import beside
from sidecar.rego.compile import canonical
from sidecar.rego.lint import RESERVED, ROOTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.rego.authzen import AuthzenPolicy
    from sidecar.rego.beside import Beside
    from sidecar.rego.compile import Compiled


def served_bundle(
    compiled: Compiled, authzen: AuthzenPolicy | None = None, *, before: Iterable[Beside] = ()
) -> bytes:
    """As bundle, for an OPA that servers ask: also by name of revision, those *before* too that are others.

    ConfigError where a module is not Rego.
    """
    plain = compiled.revision, authzen.revision if authzen else None
    others = [each for each in before if each.revision not in plain]
    return bundle(compiled, authzen, revisions=[beside(compiled), *others])


def bundle(
    compiled: Compiled, authzen: AuthzenPolicy | None = None, *, revisions: Iterable[Beside] = ()
) -> bytes:
    """A tar.gz for OPA: the same bytes on any machine. *authzen* is a domain of its own, beside ours."""
    manifest: dict[str, Any] = {"revision": compiled.revision, "roots": list(ROOTS), "rego_version": 1}
    data, modules = compiled.data, dict(compiled.modules)
    if authzen is not None:
        manifest["revision"] = f"{compiled.revision}-{authzen.revision}"
        manifest["roots"] += [authzen.root]
        data = canonical(json.loads(data) | json.loads(authzen.data))
        modules |= authzen.modules
    if named := {each.revision: each for each in revisions}:
        whole = json.loads(data)
        whole["authz"][RESERVED] = {name: each.data for name, each in named.items()}
        data = canonical(whole)
        for each in named.values():
            modules |= each.modules
    files = {"/.manifest": canonical(manifest), "/data.json": data}
    files |= {f"/{path}": text.encode() for path, text in sorted(modules.items())}
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)  # no time and no owner: only content
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return _gzip(tar.getvalue())


def _gzip(content: bytes) -> bytes:
    """*content* as gzip without compression, because zlib's output differs between its versions."""
    most = 0xFFFF
    blocks = [content[start : start + most] for start in range(0, len(content), most)]
    stored = b"".join(
        struct.pack("<BHH", number == len(blocks), len(block), len(block) ^ most) + block
        for number, block in enumerate(blocks, start=1)
    )
    header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # deflate, no name, no time, unknown system
    return header + stored + struct.pack("<II", zlib.crc32(content), len(content))
