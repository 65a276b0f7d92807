"""The memory of a process, from /proc."""

from pathlib import Path


def resident_mib(pid: int) -> int:
    """Return the resident memory of a process in MiB."""
    return _line(pid, "VmRSS")


def peak_mib(pid: int) -> int:
    """Return the highest resident memory of a process so far in MiB."""
    return _line(pid, "VmHWM")


def _line(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(name))
