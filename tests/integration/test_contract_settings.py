"""Contract, section 7: what the settings are when nothing is set."""

import pytest

from worker.settings import Settings, read_settings

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
