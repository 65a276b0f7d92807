"""The settings that no variable changes, and MongoDB URIs that are wrong."""

import pytest

from worker.settings import Settings, WrongSetting, read_settings


def test_settings_without_any_variable_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    settings = read_settings()
    assert settings.nats_url == ["nats://localhost:4222"]
    assert settings.mongo_uri.get_secret_value() == "mongodb://localhost:27017/?replicaSet=rs0"
    assert (settings.site_id, settings.partitions, settings.grace_ms) == ("site-local", 8, 86_400_000)


@pytest.mark.parametrize(
    "uri", ["mongodb://", "mongodb://joe:pa/ss@host", "mongodb://host:seven", "mongodb://host:1/?tls"]
)
def test_mongo_uri_that_the_driver_cannot_parse_is_refused_and_not_quoted(uri: str) -> None:
    with pytest.raises(WrongSetting, match="MONGO_URI must be") as wrong:
        read_settings(nats_url="nats://localhost:4222", mongo_uri=uri)
    assert "ss@host" not in str(wrong.value)
