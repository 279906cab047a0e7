"""The environment, read once at start. A wrong value is one clear line that names the variable, and exit status 2."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pipeline.errors import ConfigError
from pipeline.s3 import BucketAccess

Positive = Annotated[int, Field(gt=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """What every service reads. Empty variables count as absent."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    bind_host: str = "0.0.0.0"  # noqa: S104 - a pod's probes come from outside the pod
    health_port: Annotated[int, Field(ge=0, le=65535)] = 0
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    admin_api_key: SecretStr | None = None

    @classmethod
    def load(cls) -> Self:
        """Read the environment. Raises ConfigError, naming each variable that is missing or wrong, never its value."""
        try:
            return cls()
        except ValidationError as error:
            raise ConfigError("; ".join(_describe(item) for item in error.errors(include_input=False))) from None


def _describe(item: object) -> str:
    assert isinstance(item, dict)  # pydantic's ErrorDetails
    if not item["loc"]:  # a rule about several variables, which its message names
        return str(item["msg"]).removeprefix("Value error, ")
    name = str(item["loc"][0]).upper()
    return f"{name} is missing" if item["type"] == "missing" else f"{name} is wrong: {item['msg']}"


class DatabaseSettings(Settings):
    """The source database, and the ledger's where that is another one."""

    database_url: SecretStr
    ledger_database_url: SecretStr | None = None
    replication_slot: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,63}$")] = "events_pipeline"
    publication: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")] = "events_pipeline"

    @field_validator("database_url", "ledger_database_url")
    @classmethod
    def _is_a_dsn(cls, value: SecretStr | None) -> SecretStr | None:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict

        try:
            if value is not None:
                conninfo_to_dict(value.get_secret_value())
        except ProgrammingError:
            raise ValueError("not a connection string; expected postgresql://user:password@host:port/dbname") from None
        return value

    @property
    def source_dsn(self) -> str:
        """Connection string of the source database."""
        return self.database_url.get_secret_value()

    @property
    def ledger_dsn(self) -> str:
        """Connection string of the ledger's database."""
        return (self.ledger_database_url or self.database_url).get_secret_value()


def _whole_pair(settings: Settings, prefix: str) -> None:
    """Half a key pair would silently mean the pod's ambient credentials."""
    given = [bool(getattr(settings, f"{prefix}_s3_{half}_key")) for half in ("access", "secret")]
    if any(given) and not all(given):
        raise ValueError(f"{prefix.upper()}_S3_ACCESS_KEY and {prefix.upper()}_S3_SECRET_KEY go together")


class KafkaSettings(Settings):
    """The broker and the raw topic."""

    aws_region: str = "us-east-1"
    kafka_bootstrap_servers: str
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_ssl_ca_file: str | None = None
    """PEM file of the authority that signed the brokers' certificates; without it the system's authorities hold."""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "AWS_MSK_IAM"] = "SCRAM-SHA-512"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_raw_topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")] = "events.raw"
    kafka_partitions: Positive = 12
    kafka_retention_hours: Positive = 168
    kafka_group: str = "processor"


class RawS3Settings(Settings):
    """The bucket of raw, unfiltered one-minute files."""

    aws_region: str = "us-east-1"
    aws_endpoint_url: str | None = None
    raw_s3_bucket: str
    raw_s3_region: str | None = None
    raw_s3_access_key: SecretStr | None = None
    raw_s3_secret_key: SecretStr | None = None
    raw_s3_endpoint_url: str | None = None
    raw_s3_kms_key: str | None = None

    @model_validator(mode="after")
    def _has_a_whole_raw_pair(self) -> Self:
        _whole_pair(self, "raw")
        return self

    @property
    def raw_bucket(self) -> BucketAccess:
        """How to reach the raw bucket; AWS_REGION and AWS_ENDPOINT_URL hold unless its own are given."""
        return BucketAccess(
            bucket=self.raw_s3_bucket,
            region=self.raw_s3_region or self.aws_region,
            endpoint_url=self.raw_s3_endpoint_url or self.aws_endpoint_url,
            access_key=self.raw_s3_access_key,
            secret_key=self.raw_s3_secret_key,
            kms_key=self.raw_s3_kms_key,
        )


class ProcessedS3Settings(Settings):
    """The bucket of processed, filtered objects."""

    aws_region: str = "us-east-1"
    aws_endpoint_url: str | None = None
    processed_s3_bucket: str
    processed_s3_region: str | None = None
    processed_s3_access_key: SecretStr | None = None
    processed_s3_secret_key: SecretStr | None = None
    processed_s3_endpoint_url: str | None = None
    processed_s3_kms_key: str | None = None

    @model_validator(mode="after")
    def _has_a_whole_processed_pair(self) -> Self:
        _whole_pair(self, "processed")
        return self

    @property
    def processed_bucket(self) -> BucketAccess:
        """How to reach the processed bucket; AWS_REGION and AWS_ENDPOINT_URL hold unless its own are given."""
        return BucketAccess(
            bucket=self.processed_s3_bucket,
            region=self.processed_s3_region or self.aws_region,
            endpoint_url=self.processed_s3_endpoint_url or self.aws_endpoint_url,
            access_key=self.processed_s3_access_key,
            secret_key=self.processed_s3_secret_key,
            kms_key=self.processed_s3_kms_key,
        )


class ClientStoreSettings(Settings):
    """Where clients live, and the keys that decrypt their secrets (the first encrypts, all decrypt)."""

    client_store: Literal["firestore", "postgres"] = "firestore"
    google_cloud_project: str = ""
    firestore_emulator_host: str | None = None
    credentials_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()

    @field_validator("credentials_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class DestinationSettings(Settings):
    """How clients' buckets are reached."""

    aws_region: str = "us-east-1"
    aws_endpoint_url: str | None = None
    allow_private_endpoints: bool = False


class SyncQueueSettings(Settings):
    """The queue of ticks and orders to deliver."""

    aws_region: str = "us-east-1"
    aws_endpoint_url: str | None = None
    sync_queue_url: str

    @field_validator("sync_queue_url")
    @classmethod
    def _is_a_url(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")):
            raise ValueError("not the URL of a queue; expected https://sqs.<region>.amazonaws.com/<account>/<name>")
        return value
