"""The reference pages: the committed pages are those that `make reference` writes, and they are complete."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from roomkeys.decisions.decision import MembershipReason, RoomCreation
from roomkeys.membership import Kind, Membership, Room
from store.documents import membership_document, reason_upsert, room_document
from store.reads.batch_query import MEMBER_FIELDS, REASON_FIELDS, ROOM_FIELDS, USER_FIELDS
from store.setup.indexes import INDEXES
from store.setup.permissions import READS_AND_WRITES
from tests.unit.cli.data_model_page import FIELDS
from tests.unit.cli.reasons_page import codes_of_the_contract, reasons
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


def test_reasons_page_has_every_reason_of_the_code_and_every_code_of_the_contract() -> None:
    page = PAGES["reasons.md"]()
    found = list(reasons())
    assert len({item.reason for item in found}) >= 15
    assert [item for item in found if f"| `{item.code}` | `{item.reason}` |" not in page] == []
    codes = codes_of_the_contract()
    assert {item.code for item in found} <= set(codes)
    assert [code for code in codes if f"\n| `{code}` |" not in page] == []


def paths(document: dict[str, Any], prefix: str = "") -> set[str]:
    """Return the dotted names of a document's fields."""
    found: set[str] = set()
    for name, value in document.items():
        found |= paths(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}"}
    return found


def documented(collection: str) -> set[str]:
    return {field.name for field in FIELDS[collection]}


def test_data_model_page_has_every_field_that_the_worker_writes() -> None:
    """Keys, which only the transactions write, are in docs/contract.md, section 5."""
    written: dict[str, set[str]] = {"rooms": set(), "subscriptions": set()}
    for kind in Kind:
        room = Room("r1", "", kind, "s")
        written["rooms"] |= paths(room_document(room, RoomCreation(5, (("u1", "bob"),)), 1, 0))
        member = Membership("m1", "u1", "bob", "r1", "s", None, "", kind, 5, subscribed=True, history_from_ms=5)
        written["subscriptions"] |= paths(membership_document(member))
    row: Any = reason_upsert("r1", MembershipReason("individual", "u1", "bob", 5))
    written["room_members"] = paths({**row._doc["$set"], **row._doc["$setOnInsert"]})
    keys = {field for field in documented("rooms") if field.startswith(("encKey.", "keyRotation"))}
    assert written["rooms"] == documented("rooms") - keys
    assert written["subscriptions"] == documented("subscriptions")
    assert written["room_members"] == documented("room_members")


def test_data_model_page_has_every_field_that_the_worker_reads() -> None:
    reads: dict[str, Mapping[str, Any]] = {
        "rooms": ROOM_FIELDS,
        "subscriptions": MEMBER_FIELDS,
        "room_members": REASON_FIELDS,
        "users": USER_FIELDS,
    }
    for collection, fields in reads.items():
        public = {name for name in fields if not name.startswith("keyRotation.") and fields[name] == 1}
        assert public <= documented(collection), collection


def test_data_model_page_has_every_collection_and_index() -> None:
    page = PAGES["data-model.md"]()
    assert [name for name in READS_AND_WRITES if f"| `{name}` |" not in page] == []
    assert [index for index in INDEXES if f"`({', '.join(index.fields)})`" not in page] == []
