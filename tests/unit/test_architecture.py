"""Imports point inward, and the domain reads no clock. (docs/design.md, Where things live)"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OUTSIDE = ("store", "worker", "nats", "motor", "pymongo", "bson", "gridfs")
INPUT_AND_OUTPUT = ("asyncio", "socket", "ssl", "selectors", "threading", "subprocess", "aiohttp", "os", "io")
CLOCKS = ("time", "sched", "uuid", "uuid_utils")
CLOCK_CALLS = ("now", "utcnow", "today", "time_ns", "monotonic", "perf_counter", "open", "input")
PURE = (*OUTSIDE, *INPUT_AND_OUTPUT, *CLOCKS, "roomkeys.client")
CLIENT = ROOT / "roomkeys" / "client"
"""The only folder of `roomkeys` that may use asyncio and NATS."""


def imports(source: str) -> Iterator[str]:
    """Yield every module, and every name in one, that the source imports anywhere."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str() as module, names=names, level=0):
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)


def forbidden(source: str, roots: tuple[str, ...]) -> set[str]:
    """Return the imports that are one of the roots or below one."""
    return {name for name in imports(source) if f"{name}.".startswith(tuple(f"{root}." for root in roots))}


def clock_calls(source: str) -> set[str]:
    """Return the names of called functions that read a clock or a file."""
    calls = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    named = {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls}
    return named & set(CLOCK_CALLS)


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def pure_modules() -> list[Path]:
    return [path for path in modules("roomkeys") if CLIENT not in path.parents]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", pure_modules(), ids=named)
def test_domain_imports_no_server_and_reads_no_clock(path: Path) -> None:
    source = path.read_text()
    assert forbidden(source, PURE) == set()
    assert clock_calls(source) == set()


@pytest.mark.parametrize("path", modules("roomkeys/client"), ids=named)
def test_client_library_imports_no_worker_and_no_database(path: Path) -> None:
    source = path.read_text()
    assert forbidden(source, tuple(root for root in OUTSIDE if root != "nats")) == set()
    assert clock_calls(source) == set()


@pytest.mark.parametrize("path", modules("store"), ids=named)
def test_store_imports_neither_worker_nor_broker(path: Path) -> None:
    assert forbidden(path.read_text(), ("worker", "nats", "roomkeys.client")) == set()


@pytest.mark.parametrize("package", ["roomkeys", "store"])
def test_packages_are_where_this_test_looks(package: str) -> None:
    assert ROOT / package / "__init__.py" in modules(package)


@pytest.mark.parametrize(
    "planted",
    [
        "import nats",
        "import nats.aio.client as c",
        "from pymongo.errors import PyMongoError",
        "from store import apply",
        "import orjson, worker.app",
        "def late():\n    from motor import motor_asyncio",
        "if TYPE_CHECKING:\n    from bson import ObjectId",
        "from time import time",
        "import asyncio",
        "from roomkeys import client",
    ],
)
def test_planted_import_is_found(planted: str) -> None:
    assert forbidden(planted, PURE) != set()


@pytest.mark.parametrize("planted", ["stamp = datetime.now(UTC)", "x = date.today()", "open('x')"])
def test_planted_clock_is_found(planted: str) -> None:
    assert clock_calls(planted) != set()


@pytest.mark.parametrize(
    "allowed", ["import orjson", "from roomkeys.keys import RoomKey", "import natsort", "from . import errors"]
)
def test_allowed_import_is_accepted(allowed: str) -> None:
    assert forbidden(allowed, PURE) == set()


def event_waits(source: str) -> list[int]:
    """Return the lines that give `asyncio.wait_for` the `wait()` of an event."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    waits = (call for call in calls if ast.unparse(call.func) == "asyncio.wait_for" and call.args)
    # A process is no event: its end is not lost with the cancellation.
    return [call.lineno for call in waits if re.fullmatch(r"(?!process).*\.wait\(\)", ast.unparse(call.args[0]))]


@pytest.mark.parametrize("package", ["roomkeys", "store", "worker"])
def test_no_wait_for_an_event_can_lose_a_cancellation(package: str) -> None:
    """`wait_for` of Python 3.11 swallows a cancellation that meets the event; `asyncio.timeout` does not."""
    found = {named(path): lines for path in modules(package) if (lines := event_waits(path.read_text()))}
    assert found == {}


def test_planted_wait_for_an_event_is_found() -> None:
    assert event_waits("await asyncio.wait_for(self._wake.wait(), 5)") == [1]
    assert event_waits("await asyncio.wait_for(answer, 5)\nawait asyncio.wait_for(process.wait(), 5)") == []
