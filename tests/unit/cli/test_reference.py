"""The reference pages: the committed pages are those that `make reference` writes, and they are complete."""

from pathlib import Path

import pytest

from tests.unit.cli.reference_pages import PAGES, main
from tests.unit.cli.test_commands import commands
from worker.limits import Limits
from worker.settings import Settings, read_settings
from worker.settings.environment import variable
from worker.telemetry import metrics

FOLDER = Path(__file__).parents[3] / "docs" / "reference"


def cells(page: str) -> list[list[str]]:
    """Return the cells of the rows of all tables of a page, without code marks."""
    rows = [line for line in PAGES[page]().splitlines() if line.startswith("| `")]
    return [[cell.strip("` ") for cell in row.strip("|").split(" | ")] for row in rows]


@pytest.mark.parametrize("page", PAGES)
def test_reference_page_is_up_to_date(page: str) -> None:
    assert (FOLDER / page).read_text() == PAGES[page](), "run `make reference`"


def test_every_reference_page_is_written(tmp_path: Path) -> None:
    main(tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(PAGES)
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(PAGES)


def test_settings_page_has_every_setting_and_a_default_that_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = cells("settings.md")
    assert [row[0] for row in rows] == [variable(field) for field in Settings.model_fields]
    expected = read_settings()
    for name, default, *_ in rows:
        if default != "not set":
            monkeypatch.setenv(name, default)
    assert read_settings() == expected


def test_settings_page_marks_every_secret() -> None:
    marked = {row[0]: row[3] for row in cells("settings.md") if row[3] != "no"}
    assert marked == {
        "MONGO_URI": "yes",
        "MONGO_PASSWORD": "yes",
        "MONGO_PASSWORD_FILE": "the file",
        "NATS_PASSWORD": "yes",
        "NATS_CREDS_FILE": "the file",
        "NATS_NKEY_SEED_FILE": "the file",
        "NATS_TLS_KEY": "the file",
    }


def test_commands_page_has_every_command() -> None:
    page = PAGES["commands.md"]()
    assert [path for path, _ in commands() if f"\n## {path}\n" not in page] == []


def test_metrics_page_has_every_metric_of_the_registry() -> None:
    families = metrics.REGISTRY.collect()
    names = [f"{family.name}_total" if family.type == "counter" else family.name for family in families]
    assert [row[0] for row in cells("metrics.md")] == names


def test_limits_page_has_every_limit_and_its_meaning() -> None:
    rows = cells("limits.md")
    assert [row[0] for row in rows] == list(Limits.__dataclass_fields__)
    assert all(row[2] for row in rows)
