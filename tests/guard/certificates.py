"""An authority of a test's own, the certificates that it signs, and servers that show them."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_READY_WITHIN_S = 20
_DAY = timedelta(days=1)
_NGINX = """
error_log stderr;
pid nginx.pid;
user root;
daemon off;
events {}
http {
    access_log off;
    client_body_temp_path temporary;
    proxy_temp_path temporary;
    fastcgi_temp_path temporary;
    uwsgi_temp_path temporary;
    scgi_temp_path temporary;
    server {
        listen 127.0.0.1:PORT ssl;
        ssl_certificate CHAIN;
        ssl_certificate_key CHAIN;
        location / { proxy_pass http://127.0.0.1:SIDECAR; }
    }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """*file* holds the certificate that a client trusts."""

    file: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def an_authority(folder: Path, name: str = "authority") -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _begun(name, key, of=name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(file=file, certificate=certificate, key=key)


def a_certificate(
    authority: Authority, *, host: str = "127.0.0.1", ended: bool = False, name: str = "server"
) -> Path:
    """A file with the certificate of *host* and its key. *ended*: it was valid until yesterday."""
    key = ec.generate_private_key(ec.SECP256R1())
    named: x509.GeneralName = x509.DNSName(host)
    if host.replace(".", "").isdigit():
        named = x509.IPAddress(ip_address(host))
    issuer = authority.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    certificate = (
        _begun(host, key, of=str(issuer), ended=ended)
        .add_extension(x509.SubjectAlternativeName([named]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    file = authority.file.with_name(f"{name}.pem")
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return file


def _begun(
    name: str, key: ec.EllipticCurvePrivateKey, *, of: str, ended: bool = False
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, of)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 3 * _DAY)
        .not_valid_after(now - _DAY if ended else now + _DAY)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def shows(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@contextmanager
def nginx(certificate: Path, folder: Path, *, sidecar: int) -> Iterator[str]:
    """The URL of an nginx that shows *certificate*, before the sidecar at that port."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        pytest.skip("needs nginx: apt-get install nginx")
    port = free_port()
    told = {"PORT": str(port), "CHAIN": str(certificate), "SIDECAR": str(sidecar)}
    text = _NGINX
    for name, value in told.items():
        text = text.replace(name, value)
    (folder / "nginx.conf").write_text(text)
    process = subprocess.Popen([binary, "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"])
    try:
        _wait_for(port, process)
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    ending = datetime.now(UTC) + timedelta(seconds=_READY_WITHIN_S)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, "nginx has ended"
            assert datetime.now(UTC) < ending, "nginx does not listen"
        else:
            return
