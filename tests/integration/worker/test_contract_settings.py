"""Contract, section 7: what the settings are when nothing is set, and which are refused."""

from pathlib import Path

import nkeys
import pytest

from worker.app import open_database
from worker.broker.credentials import credentials
from worker.settings import Settings, WrongSetting, read_settings

DEFAULTS = {
    "nats_url": ["nats://localhost:4222"],
    "site_id": "site-local",
    "mongo_db": "chat",
    "mongo_driver": "motor",
    "bootstrap_streams": False,
    "start_from": "auto",
    "key_fanout_workers": 32,
    "max_batch_events": 256,
    "grace_ms": 86_400_000,
    "partitions": 8,
    "key_service": True,
    "key_service_queue": "room-keys",
    "health_addr": ":8081",
    "metrics_addr": ":9090",
    "log_level": "info",
    "log_format": "json",
}


def test_an_empty_environment_means_the_contracts_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Settings.model_fields, "room_key_grace_period"):
        monkeypatch.delenv(name.upper(), raising=False)
    settings = read_settings()
    assert {field: getattr(settings, field) for field in DEFAULTS} == DEFAULTS
    assert settings.mongo_uri.get_secret_value() == "mongodb://localhost:27017/?replicaSet=rs0"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nats_url", "nats://localhost:abc"),
        ("nats_url", "nats://localhost:99999"),
        ("nats_url", "nats://:4222"),
        ("nats_url", "nats://localhost:4222,ws://localhost:8080"),
        ("grace_ms", "3651d"),
        ("grace_ms", "9" * 400 + "d"),
    ],
)
def test_a_setting_that_could_never_work_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(WrongSetting, match="ROOM_KEY_GRACE_PERIOD" if name == "grace_ms" else name.upper()):
        read_settings(**{name: value})


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b" \n"])
def test_a_password_file_without_a_password_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(WrongSetting, match="MONGO_PASSWORD_FILE"):
        read_settings(mongo_username="joe", mongo_password_file=file)


JWT = b"-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("nats_nkey_seed_file", nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_ACCOUNT)),
        ("nats_creds_file", JWT + b"-----BEGIN USER NKEY SEED-----\nnonsense\n"),
        ("nats_creds_file", JWT + b"-----BEGIN USER NKEY SEED-----\nSUNO\n------END USER NKEY SEED------\n"),
    ],
)
def test_credentials_that_are_none_are_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(WrongSetting, match=name.upper()):
        credentials(read_settings(**{name: file}))


@pytest.mark.parametrize("uri", ["mongodb+srv://", "mongodb://localhost/?tls=true&tlsCAFile=/nonexistent"])
def test_a_database_that_no_client_can_be_made_for_is_a_wrong_setting(uri: str) -> None:
    with pytest.raises(WrongSetting, match="MONGO_URI"):
        open_database(read_settings(mongo_uri=uri))  # the one names no server, the other no file
