"""How much memory a process has, and ever had."""

from pathlib import Path


def resident_mib(pid: int) -> int:
    """Return how much memory a process has now."""
    return _line(pid, "VmRSS")


def peak_mib(pid: int) -> int:
    """Return the most memory that a process ever had."""
    return _line(pid, "VmHWM")


def _line(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(name))
