"""`Settings`: every setting with its default and meaning, read from the environment. (docs/contract.md, section 7)

The page docs/reference/settings.md is generated from the class.
"""

from typing import Any

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.settings import values
from worker.settings.values import MustBe


class WrongSetting(Exception):
    """A setting is wrong or missing; the message names the variable and says what it must be."""


class Settings(BaseSettings):
    """Every setting, under the name of its variable in lower case. Durations are milliseconds."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    nats_url: values.Servers = Field(["nats://localhost:4222"], description="NATS servers, comma-separated.")
    nats_creds_file: values.SecretFile = Field(None, description="NATS credentials file: a user JWT and its seed.")
    nats_nkey_seed_file: values.SecretFile = Field(None, description="File with an nkey seed for NATS.")
    nats_user: str | None = Field(None, description="NATS user; needs `NATS_PASSWORD`.")
    nats_password: SecretStr | None = Field(None, description="Password of `NATS_USER`.")
    nats_tls_ca: values.ReadableFile = Field(
        None, description="Certificates (PEM) of the authorities that the NATS server's certificate is checked with."
    )
    nats_tls_cert: values.ReadableFile = Field(
        None, description="Client certificate (PEM) for NATS; needs `NATS_TLS_KEY`."
    )
    nats_tls_key: values.SecretFile = Field(None, description="Private key (PEM) of `NATS_TLS_CERT`.")
    site_id: values.Token = Field(
        "site-local", description="The site: the `{site}` token in subjects and stream names."
    )
    mongo_uri: values.MongoUri = Field(
        SecretStr("mongodb://localhost:27017/?replicaSet=rs0"),
        description="MongoDB, which must be a replica set (one node is enough): the worker needs transactions.",
    )
    mongo_db: values.DatabaseName = Field("chat", description="MongoDB database.")
    mongo_username: str | None = Field(
        None, description="MongoDB user; needs `MONGO_PASSWORD` or `MONGO_PASSWORD_FILE`."
    )
    mongo_password: SecretStr | None = Field(None, description="Password of `MONGO_USERNAME`.")
    mongo_password_file: values.SecretFile = Field(
        None, description="File with the password of `MONGO_USERNAME`; takes precedence over `MONGO_PASSWORD`."
    )
    mongo_driver: values.Driver = Field("motor", description="MongoDB driver.")
    bootstrap_streams: values.TrueFalse = Field(
        False, description="Create missing streams at start, with one replica each; for development."
    )
    start_from: values.Start = Field(
        "auto",
        description="Where the first start of a site begins. `auto`: after the ack floor of the durable consumer "
        "`room-worker` if there is one, otherwise at the first message. `new`: after the last message. A number: "
        "at that stream sequence.",
    )
    key_fanout_workers: values.UpTo1024 = Field(32, description="Maximum number of fan-out chunks in flight at once.")
    max_batch_events: values.UpTo10000 = Field(256, description="Maximum number of events in one batch.")
    grace_ms: values.Duration = Field(
        86_400_000,
        validation_alias=AliasChoices("ROOM_KEY_GRACE_PERIOD", "grace_ms"),
        description="How long members can fetch a room key after another one has replaced it.",
    )
    partitions: values.UpTo1024 = Field(
        8,
        description="Number of partitions into which the rooms of the site are divided among replicas. The first "
        "start of a site fixes it.",
    )
    key_service: values.OnOff = Field(True, description="Whether to answer members who ask for room keys.")
    key_service_queue: values.Token = Field(
        "room-keys", description="Queue group in which replicas share key requests."
    )
    key_service_replies: values.ReplyPrefixes = Field(
        ["_INBOX."],
        description="Prefixes of the reply addresses that the key service answers, comma-separated. It ignores "
        "requests with other reply addresses.",
    )
    health_addr: values.Address = Field(
        ":8081", description="Where `/healthz` (the process is alive) and `/readyz` (it is ready) are served."
    )
    metrics_addr: values.Address = Field(":9090", description="Where `/metrics` is served, for Prometheus.")
    log_level: values.LogLevel = Field("info", description="Log this level and above.")
    log_format: values.LogFormat = Field("json", description="One JSON object per line, or text that people read.")

    @model_validator(mode="after")
    def _belong_together(self) -> "Settings":
        for one, other in (("nats_user", "nats_password"), ("nats_tls_cert", "nats_tls_key")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise ValueError(f"{one.upper()} and {other.upper()} must be set together")
        if self.mongo_username is not None and not self.mongo_secret:
            raise ValueError("MONGO_PASSWORD or MONGO_PASSWORD_FILE must give the password of MONGO_USERNAME")
        return self

    @property
    def mongo_secret(self) -> str | None:
        """Return the password for MongoDB, from `MONGO_PASSWORD_FILE` if it is set."""
        if self.mongo_password_file is not None:
            try:
                return self.mongo_password_file.read_text().strip()
            except (OSError, UnicodeDecodeError):
                raise ValueError("MONGO_PASSWORD_FILE must be a readable text file") from None
        return None if self.mongo_password is None else self.mongo_password.get_secret_value()


def read_settings(**given: Any) -> Settings:
    """Return the settings from the environment; `given` values, by field, take precedence.

    Raises `WrongSetting` with one line for each setting that is wrong.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        raise WrongSetting("\n".join(_complaint(item) for item in error.errors())) from None


def variable(field: str) -> str:
    """Return the environment variable of a field of `Settings`."""
    return "ROOM_KEY_GRACE_PERIOD" if field == "grace_ms" else field.upper()


def must_be(field: str) -> MustBe:
    """Return what the value of a field of `Settings` must be."""
    found = (item for item in Settings.model_fields[field].metadata if isinstance(item, MustBe))
    return next(found, MustBe("text"))


def _complaint(item: Any) -> str:
    """Say which variable is wrong and what it must be, but not what it was: it may be a secret."""
    if not item["loc"]:  # two settings contradict each other
        return str(item["msg"]).removeprefix("Value error, ")
    named = str(item["loc"][0])
    (field,) = (field for field in Settings.model_fields if named in {field, variable(field)})
    return f"{variable(field)} must be {must_be(field).text}"
