"""Certificates for TLS between a client and a server on this machine."""

import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


@dataclass
class Authority:
    """A certificate authority that signs one certificate for 127.0.0.1, which a server and a client can use."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def write(self, folder: Path) -> None:
        """Write `ca.pem`, `cert.pem` and `key.pem`, in place of those of another authority."""
        folder.mkdir(exist_ok=True)
        own = ec.generate_private_key(ec.SECP256R1())
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        ca = self._certificate("authority", self.key.public_key(), x509.BasicConstraints(ca=True, path_length=None))
        (folder / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
        certificate = self._certificate("server", own.public_key(), address)
        (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        pem = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "key.pem").write_bytes(pem)

    def _certificate(
        self, name: str, key: ec.EllipticCurvePublicKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("authority"))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(extension, critical=True)
            .sign(self.key, SHA256())
        )
