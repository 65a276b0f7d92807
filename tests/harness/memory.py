"""Servers that keep their data in memory, so that no test waits for a disk.

The log of such a server stays in a folder of pytest. Its data goes to a tmpfs, if the machine has one with enough
space, and is removed when the test or the process ends that it belongs to. If the process is killed, the next
process removes what it left.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TMPFS = Path("/dev/shm")  # noqa: S108 - on Linux; other systems have no such folder
PREFIX = "room-worker-tests-"
LOCK = "lock"
DATA = ("data", "jetstream")
"""The folders in which `mongod` and `nats-server` keep their data. (worker/local/servers.py)"""

BYTES_PER_PROCESS = 1 << 30
"""Free space that each test process has to find; its servers use less than half of it."""


@contextmanager
def memory() -> Iterator[Path | None]:
    """Make a folder on a tmpfs for the length of the block; None if there is no tmpfs with enough space."""
    if not _has_space():
        yield None
        return
    _remove_abandoned()
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, dir=TMPFS, ignore_cleanup_errors=True) as folder,
        Path(folder, "locking").open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        Path(lock.name).rename(Path(folder, LOCK))  # only now, so that no other process finds it unlocked
        yield Path(folder)


@contextmanager
def data_in(root: Path | None, *folders: Path) -> Iterator[None]:
    """Let the servers of these folders keep their data below `root` until the block ends; None: in the folders."""
    if root is None:
        yield
        return
    with tempfile.TemporaryDirectory(dir=root, ignore_cleanup_errors=True) as data:
        for number, folder in enumerate(folders):
            folder.mkdir(parents=True, exist_ok=True)
            for name in DATA:
                target = Path(data, f"{number}-{name}")
                target.mkdir()
                (folder / name).symlink_to(target)
        yield


def _has_space() -> bool:
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return (
        TMPFS.is_dir() and os.access(TMPFS, os.W_OK) and shutil.disk_usage(TMPFS).free >= processes * BYTES_PER_PROCESS
    )


def _remove_abandoned() -> None:
    """Remove the folders of processes that have ended: their locks are free."""
    for path in TMPFS.glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError), path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.parent, ignore_errors=True)
