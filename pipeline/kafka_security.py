"""How a connection to Kafka is secured: TLS, SCRAM, and IAM of Amazon MSK."""

from __future__ import annotations

import base64
import ssl
from typing import Any

from aiobotocore.session import get_session
from aiokafka.abc import AbstractTokenProvider
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError

from pipeline.errors import ConfigError, TransientError
from pipeline.settings import KafkaSettings

TOKEN_SECONDS = 900
"""The longest that MSK allows. A token is only read when a connection opens: one that is open outlives it."""


def security_options(settings: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments for aiokafka's clients. Raises ConfigError for what is missing or doesn't fit together."""
    options: dict[str, Any] = {"security_protocol": settings.kafka_security_protocol}
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = _tls(settings.kafka_ssl_ca_file)
    if settings.kafka_security_protocol.startswith("SASL"):
        options |= _sasl(settings)
    return options


def _tls(ca_file: str | None) -> ssl.SSLContext:
    """Verifies certificate and host name, by the system's authorities or those of the file alone."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"KAFKA_SSL_CA_FILE is wrong: {type(error).__name__}", hint="a PEM file is needed") from None


def _sasl(settings: KafkaSettings) -> dict[str, Any]:
    if settings.kafka_sasl_mechanism == "AWS_MSK_IAM":
        if settings.kafka_security_protocol != "SASL_SSL":
            raise ConfigError("KAFKA_SECURITY_PROTOCOL is wrong: AWS_MSK_IAM needs SASL_SSL")
        return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": IamTokens(settings.aws_region)}
    if not settings.kafka_sasl_username or not settings.kafka_sasl_password:
        raise ConfigError("KAFKA_SASL_USERNAME or KAFKA_SASL_PASSWORD is missing")
    return {
        "sasl_mechanism": settings.kafka_sasl_mechanism,
        "sasl_plain_username": settings.kafka_sasl_username,
        "sasl_plain_password": settings.kafka_sasl_password.get_secret_value(),
    }


class IamTokens(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens for MSK's IAM listener: a presigned URL of the action `kafka-cluster:Connect`, in base64.

    Signed anew for each connection with the credentials that the pod's role has by then; nothing is sent for that.
    https://github.com/aws/aws-msk-iam-auth describes the form.
    """

    def __init__(self, region: str) -> None:
        self._region = region
        self._session = get_session()

    async def token(self) -> str:
        """A token for one connection. Raises TransientError when there are no credentials."""
        try:
            found = await self._session.get_credentials()
            if found is None:
                raise TransientError("there are no AWS credentials for Kafka", hint="check the service account's role")
            credentials = await found.get_frozen_credentials()
        except BotoCoreError as error:
            raise TransientError(f"no AWS credentials for Kafka ({type(error).__name__})") from error
        url = f"https://kafka.{self._region}.amazonaws.com/?Action=kafka-cluster%3AConnect"
        request = AWSRequest(method="GET", url=url)
        SigV4QueryAuth(credentials, "kafka-cluster", self._region, expires=TOKEN_SECONDS).add_auth(request)
        signed = f"{request.url}&User-Agent=event-pipeline"
        return base64.urlsafe_b64encode(signed.encode()).decode().rstrip("=")
