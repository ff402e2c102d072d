"""Certificates of our own, for engines that serve TLS and for their clients."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from benchmarks.engine_servers import Tls

_LIFE = timedelta(days=1)


class TlsAuthority:
    """A self-made authority; everything that it issues is a PEM file in ``folder``."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _subject(name)
        made = self._builder(self._subject, self._key, ca=True).sign(self._key, hashes.SHA256())
        self.certificate = self._write(f"{name}.pem", made.public_bytes(serialization.Encoding.PEM))

    def server(self, host: str = "127.0.0.1", *, mutual: bool = False) -> Tls:
        """For the server at ``host``, a name or an address. ``mutual``: its clients' certificates are ours, too.

        Its certificate is good for a client, too: etcd's own gateway shows it to etcd.
        """
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            alternative = x509.DNSName(host)
        certificate, key = self._issue(f"server at {host}", alternative)
        return Tls(certificate, key, self.certificate, mutual)

    def client(self, name: str) -> tuple[Path, Path]:
        """The certificate of a client, and its key."""
        return self._issue(name, x509.DNSName("a-client"))

    def _issue(self, name: str, alternative: x509.GeneralName) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_subject(name), key, ca=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        file = f"{self._name}, {name}".replace("/", "_")
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return (
            self._write(f"{file}.pem", made.public_bytes(serialization.Encoding.PEM)),
            self._write(f"{file}.key", private),
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _LIFE)
            .not_valid_after(now + _LIFE)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def _write(self, name: str, data: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(data)
        path.chmod(0o600)
        return path


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
