"""TLS and passwords: the services work with servers that demand both, and with no others where they are told to."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from pydantic import SecretStr

from local import ports
from local.kafka import Kafka
from local.postgres import Postgres
from local.stack import Stack
from pipeline import kafka
from pipeline.errors import ConfigError, TransientError
from pipeline.kafka_security import IamTokens, security_options
from pipeline.settings import KafkaSettings
from tests.ops.pipeline_scene import Pipeline, eventually, open_pipeline
from tests.ops.secure_servers import PASSWORD, USER, Authority, make_authority, secure_kafka, secure_postgres


def settings(**given: str) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap_servers="127.0.0.1:1", **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
async def secure(
    tmp_path_factory: pytest.TempPathFactory, pg15_bin: Path
) -> AsyncIterator[tuple[Authority, Kafka, Postgres]]:
    """Both servers; only who knows the authority and a password gets in."""
    folder = tmp_path_factory.mktemp("secure")
    folder.chmod(0o755)  # the database's user has to get through
    authority = make_authority(folder / "authority")
    chosen = ports.choose(("broker", "controller", "inner", "postgres"), {})
    broker = secure_kafka(
        folder / "kafka",
        authority,
        port=chosen["broker"],
        controller_port=chosen["controller"],
        inner_port=chosen["inner"],
    )
    broker.client_options = security_options(kafka_settings(broker, authority))
    server = secure_postgres(folder / "postgres", authority, port=chosen["postgres"], bin_folder=pg15_bin)
    async with AsyncExitStack() as exits:
        for part in (broker, server):
            await part.start()
            exits.push_async_callback(part.stop)
        yield authority, broker, server


def kafka_settings(broker: Kafka, authority: Authority, password: str = PASSWORD) -> KafkaSettings:
    return KafkaSettings(
        kafka_bootstrap_servers=broker.bootstrap_servers,
        kafka_security_protocol="SASL_SSL",
        kafka_ssl_ca_file=str(authority.ca),
        kafka_sasl_mechanism="SCRAM-SHA-512",
        kafka_sasl_username=USER,
        kafka_sasl_password=SecretStr(password),
    )


@pytest.mark.chaos
@pytest.mark.timeout(180)
async def test_events_flow_through_a_broker_and_a_database_that_demand_tls_and_scram(
    stack: Stack, secure: tuple[Authority, Kafka, Postgres], tmp_path: Path
) -> None:
    authority, broker, server = secure
    async with open_pipeline(stack, tmp_path, postgres=server) as pipeline:
        topic = pipeline.environment["KAFKA_RAW_TOPIC"]
        await broker.create_topic(topic, partitions=4, retention_hours=1)
        pipeline.environment |= {
            "DATABASE_URL": f"{pipeline.dsn}?sslmode=verify-full&sslrootcert={authority.ca}",
            "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SSL_CA_FILE": str(authority.ca),
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": USER,
            "KAFKA_SASL_PASSWORD": PASSWORD,
        }
        await pipeline.start("streamer")
        await pipeline.start("processor")
        inserted = await pipeline.traffic(100, 3)

        async def processed() -> bool:
            return (await pipeline.look()).processed == inserted

        await eventually(processed, "all is processed")
        assert inserted > 200
        await check_that_every_connection_is_encrypted(pipeline, server)


async def check_that_every_connection_is_encrypted(pipeline: Pipeline, server: Postgres) -> None:
    query = """SELECT ssl, backend_type FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
               WHERE datname = current_database()"""
    async with await psycopg.AsyncConnection.connect(server.dsn_for(pipeline.dsn.rpartition("/")[2])) as connection:
        found = await (await connection.execute(query)).fetchall()
    assert {kind for _, kind in found} >= {"walsender", "client backend"}
    assert all(encrypted for encrypted, _ in found)


@pytest.mark.chaos
async def test_secure_servers_refuse_who_has_no_password_no_tls_or_another_authority(
    secure: tuple[Authority, Kafka, Postgres], tmp_path: Path
) -> None:
    authority, broker, server = secure
    other = make_authority(tmp_path / "other")
    plain = KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers)
    for refused in (plain, kafka_settings(broker, authority, "wrong"), kafka_settings(broker, other)):
        with pytest.raises(TransientError, match="no broker answers"):
            await kafka.check_topic(refused.model_copy(update={"kafka_raw_topic": "x"}), 1)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        await psycopg.AsyncConnection.connect(f"{server.dsn}?sslmode=verify-full&sslrootcert={other.ca}")
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        await psycopg.AsyncConnection.connect(f"{server.dsn}?sslmode=disable")


def test_tls_verifies_certificate_and_host_name() -> None:
    context = security_options(settings(kafka_security_protocol="SSL"))["ssl_context"]
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_only_the_given_authority_is_trusted_where_one_is_given(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "authority")
    given = settings(kafka_security_protocol="SSL", kafka_ssl_ca_file=str(authority.ca))
    trusted = security_options(given)["ssl_context"].get_ca_certs()
    assert [dict(pair[0] for pair in one["subject"]) for one in trusted] == [{"commonName": "authority of a test"}]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"kafka_security_protocol": "SASL_SSL"}, "KAFKA_SASL_USERNAME"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_ca_file": "/nowhere.pem"}, "KAFKA_SSL_CA_FILE"),
        (
            {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_sasl_mechanism": "AWS_MSK_IAM"},
            "KAFKA_SECURITY_PROTOCOL",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(given: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        security_options(settings(**given))


async def test_iam_token_is_a_signed_url_for_connecting_and_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-session")
    given = settings(kafka_security_protocol="SASL_SSL", kafka_sasl_mechanism="AWS_MSK_IAM", aws_region="eu-central-1")
    options = security_options(given)
    assert options["sasl_mechanism"] == "OAUTHBEARER"
    token = await options["sasl_oauth_token_provider"].token()
    url = urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
    query = {name: value for name, (value,) in parse_qs(url.query).items()}
    assert (url.scheme, url.netloc) == ("https", "kafka.eu-central-1.amazonaws.com")
    assert query["Action"] == "kafka-cluster:Connect"
    assert query["X-Amz-Expires"] == "900"
    assert query["X-Amz-Credential"].startswith("AKIAEXAMPLE/")
    assert query["X-Amz-Credential"].endswith("/eu-central-1/kafka-cluster/aws4_request")
    assert query["X-Amz-Security-Token"] == "a-session"
    assert len(query["X-Amz-Signature"]) == 64
    assert "a-secret-key" not in url.geturl()


async def test_without_credentials_an_iam_token_is_a_transient_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(TransientError, match="credentials"):
        await IamTokens("eu-central-1").token()
