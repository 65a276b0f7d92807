"""docs/operations.md lists every log event of the packages, every component of `/readyz`, and no other ones."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from worker.telemetry import metrics

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "operations.md"
LEVELS: Final = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
_ROW: Final = re.compile(r"^\| (`[^|]*) \|", re.MULTILINE)
_CODE: Final = re.compile(r"`([^`]+)`")


def modules() -> Iterator[ast.Module]:
    for package in ("roomkeys", "store", "worker"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ast.parse(path.read_text(), str(path))


def text_of(node: ast.expr, assigned: dict[str, ast.expr]) -> str:
    """Return a text as the page writes it: what varies is a word in braces."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(text_of(value, assigned) for value in values)
        case ast.FormattedValue(value=value):
            return text_of(value, {})
        case ast.Name(id=name) if name in assigned:
            return text_of(assigned[name], {})
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Call(func=ast.Name(id=name)):
            return f"{{{name.removesuffix('_of')}}}"
        case _:
            raise AssertionError(f"line {node.lineno}: the event of a log line must be a text: {ast.unparse(node)}")


def is_log_call(node: ast.Call) -> bool:
    match node.func:
        case ast.Attribute(attr=level, value=ast.Name(id="log") | ast.Attribute(attr="_log")):
            return level in LEVELS
    return False


def logged(module: ast.Module) -> Iterator[str]:
    """Yield the events of a module's log lines and outages."""
    for function in ast.walk(module):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        assigned: dict[str, ast.expr] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                assigned[node.targets[0].id] = node.value
        for node in ast.walk(function):
            if not isinstance(node, ast.Call):
                continue
            if is_log_call(node):
                yield text_of(node.args[0], assigned)
            elif isinstance(node.func, ast.Name) and node.func.id == "Outage":
                name = text_of(node.args[0], {})
                yield from (f"{name} unavailable", f"{name} available again")


def listed(heading: str) -> set[str]:
    """Return what the first columns of a section's tables name."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None, f"the page has no section {heading}"
    return {name for cell in _ROW.findall(section[1]) for name in _CODE.findall(cell)}


def test_operations_page_lists_every_log_event_and_no_stale_one() -> None:
    events = {event for module in modules() for event in logged(module)} - OUTAGE
    page = listed("Log events")
    assert page - events == set(), "these are stale"
    assert events - page == set(), "these are missing"


OUTAGE: Final = {"{name} unavailable", "{name} available again"}
"""How `worker/telemetry/outage.py` writes the events that belong to each `Outage`."""


def test_operations_page_watches_only_metrics_that_exist() -> None:
    known = {
        f"{name}{suffix}"
        for family in metrics.REGISTRY.collect()
        for name in (family.name,)
        for suffix in ("", "_total")
    }
    named = set(re.findall(r"room_worker_[a-z_]+", PAGE.read_text()))
    collections = {f"room_worker_{name}" for name in ("cursors", "sites", "replicas", "outbox")}
    assert named - known - collections == set()


def components(module: ast.Module) -> Iterator[str]:
    """Yield the components that a module gives to `/readyz`."""
    for node in ast.walk(module):
        match node:
            case ast.Subscript(value=ast.Attribute(attr="checks" | "waiting_for"), slice=ast.Constant(value=str(name))):
                yield name
            case ast.Call(func=ast.Name(id="_retry_until_ready"), args=[_, ast.Constant(value=str(name)), *_]):
                yield name
            case ast.FunctionDef(name="checks"):
                keys = (key for one in ast.walk(node) if isinstance(one, ast.Dict) for key in one.keys)
                yield from (str(key.value) for key in keys if isinstance(key, ast.Constant))


def test_operations_page_explains_every_component_of_readyz() -> None:
    found = {name for module in modules() for name in components(module)} | {"start"}
    assert found <= listed("What /readyz says"), found - listed("What /readyz says")
