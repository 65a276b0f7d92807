"""Reads what `make dist` has built."""

import re
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

PROJECT = Path(__file__).parents[3]
WORKER, CLIENT = "room_worker-", "room_worker_client-"


def wheel(dist: Path, name: str) -> Path:
    """Return the wheel of that name."""
    (found,) = dist.glob(f"{name}[0-9]*.whl")
    return found


def read(path: Path, suffix: str) -> bytes:
    """Return the content of the one file whose name has this suffix."""
    with ZipFile(path) as file:
        (name,) = (name for name in file.namelist() if name.endswith(suffix))
        return file.read(name)


def modules(path: Path) -> set[str]:
    """Return the files of a wheel that are not about the wheel."""
    with ZipFile(path) as file:
        return {name for name in file.namelist() if ".dist-info/" not in name}


def requirements(path: Path) -> dict[str, str]:
    """Return what a wheel requires: the rest of each requirement by its name."""
    lines = message_from_bytes(read(path, ".dist-info/METADATA")).get_all("Requires-Dist", [])
    matches = (re.match(r"([A-Za-z0-9_.-]+)(.*)", line) for line in lines)
    return {match[1].lower(): match[2] for match in matches if match}


def sources(*packages: str) -> set[str]:
    """Return the files of packages in the repository that belong into a wheel."""
    files = (path for package in packages for path in (PROJECT / package).rglob("*"))
    return {str(path.relative_to(PROJECT)) for path in files if path.suffix == ".py" or path.name == "py.typed"}
