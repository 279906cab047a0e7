"""A broker and a PostgreSQL server that take nobody without TLS and a password, with an authority of their own."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from local.kafka import Kafka
from local.postgres import Postgres

USER, PASSWORD = "pipeline", "scram-password-of-a-test"


@dataclass(frozen=True)
class Authority:
    """PEM files: the authority's certificate, and a server's certificate and key for 127.0.0.1."""

    ca: Path
    certificate: Path
    key: Path


def make_authority(folder: Path) -> Authority:
    """A fresh authority that has signed one server certificate."""
    folder.mkdir(parents=True)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server of a test")])
    now = datetime.now(UTC)

    def build(
        subject: x509.Name, public: ec.EllipticCurvePublicKey, *extensions: x509.ExtensionType
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            ca_name, subject, public, x509.random_serial_number(), now - timedelta(hours=1), now + timedelta(days=2)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(ca_key, hashes.SHA256())

    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    ca = build(
        ca_name,
        ca_key.public_key(),
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()),
    )
    certificate = build(
        name,
        key.public_key(),
        address,
        x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
    )
    made = Authority(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    made.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    made.key.chmod(0o600)
    return made


def secure_kafka(folder: Path, authority: Authority, *, port: int, controller_port: int, inner_port: int) -> Kafka:
    """SASL_SSL with SCRAM-SHA-512 for clients; the broker talks to itself on a listener of its own."""
    broker = Kafka(folder, port, controller_port, say=lambda _line: None)
    folder.mkdir(parents=True)
    keystore = folder / "keystore.pem"
    keystore.write_bytes(authority.key.read_bytes() + authority.certificate.read_bytes())
    broker.properties = {
        "listeners": f"SASL_SSL://127.0.0.1:{port},INNER://127.0.0.1:{inner_port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"SASL_SSL://127.0.0.1:{port},INNER://127.0.0.1:{inner_port}",
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,INNER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "INNER",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keystore),
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
    }
    broker.format_options = ("--add-scram", f'SCRAM-SHA-512=[name="{USER}",password="{PASSWORD}"]')
    return broker


def secure_postgres(folder: Path, authority: Authority, *, port: int, bin_folder: Path) -> Postgres:
    """`hostssl` and SCRAM for everybody, replication included. The wheel's server is built without TLS."""
    server = Postgres(folder, port, password=PASSWORD, bin_folder=bin_folder)
    tls = folder / "tls"
    tls.mkdir(parents=True)
    for source in (authority.certificate, authority.key):
        (tls / source.name).write_bytes(source.read_bytes())
    (tls / "server.key").chmod(0o600)
    (tls / "hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    for path in (tls, *tls.iterdir()):
        server.give(path)
    server.settings |= {
        "ssl": "on",
        "ssl_cert_file": str(tls / "server.pem"),
        "ssl_key_file": str(tls / "server.key"),
        "hba_file": str(tls / "hba.conf"),
        "fsync": "off",
    }
    return server
