"""What this machine has: memory, and devices for a network."""

from __future__ import annotations

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""What a container is allowed, by versions 2 and 1 of Linux's control groups."""


def fastest_device() -> str:
    """Return the fastest device of this machine: "cuda", "mps" or "cpu"."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def physical_memory() -> int | None:
    """Bytes of memory that are built in; None where the system does not say."""
    if not hasattr(os, "sysconf"):  # Windows
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def total_memory() -> int | None:
    """Bytes of memory that a process can have at most, swap included; None where the system does not say."""
    known = _meminfo()
    total = known["MemTotal"] + known["SwapTotal"] if known else physical_memory()
    return total and min(total, *_allowed(total))


def available_memory() -> int | None:
    """Bytes of memory that nobody uses now, or all of it where the system does not say how much that is."""
    total, known = total_memory(), _meminfo()
    return min(total, known["MemAvailable"]) if total and known else total


def _meminfo() -> dict[str, int]:
    """Linux's own numbers in bytes; empty elsewhere."""
    if not _MEMINFO.exists():
        return {}
    fields = (line.split() for line in _MEMINFO.read_text().splitlines())
    return {name.removesuffix(":"): int(number) * 1024 for name, number, *_ in fields}


def _allowed(total: int) -> list[int]:
    limits = [file.read_text().strip() for file in _LIMITS if file.is_file()]
    return [total, *(int(limit) for limit in limits if limit.isdecimal())]
