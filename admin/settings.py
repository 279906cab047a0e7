"""What the admin reads from the environment."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from pipeline.settings import (
    ClientStoreSettings,
    DatabaseSettings,
    DestinationSettings,
    ProcessedS3Settings,
    SyncQueueSettings,
)


class AdminSettings(DatabaseSettings, ProcessedS3Settings, ClientStoreSettings, DestinationSettings, SyncQueueSettings):
    """All variables of the admin."""

    kafka_raw_topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")] = "events.raw"

    admin_url: str | None = None
    """Where people reach the pages, such as https://admin.example. It decides whether cookies are for https only."""
    oidc_issuer: str | None = None
    """The OpenID provider, such as https://login.example/realms/ops. Without it people log in by password."""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr | None = None

    @field_validator("admin_url", "oidc_issuer")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("https://", "http://")):
            raise ValueError("expected https://...")
        return value and value.rstrip("/")

    @model_validator(mode="after")
    def _has_all_for_oidc(self) -> Self:
        if self.oidc_issuer and not (self.admin_url and self.oidc_client_id):
            raise ValueError("OIDC_ISSUER needs ADMIN_URL and OIDC_CLIENT_ID")
        return self
