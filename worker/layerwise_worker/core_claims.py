"""Cores that one local pipeline has to itself among all of this user: two must not bind to the same.

A claim is a lock on a file named after the core, and ends with the process that holds it, however that ends.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path


class CoreClaim:
    """Claims `wanted` of `cores`, all or none: `cores` is empty where too few are free."""

    def __init__(self, wanted: int, usable: Iterable[int], directory: Path | None = None) -> None:
        self._locks: list[int] = []
        self.cores: tuple[int, ...] = ()
        claimed: list[int] = []
        place = _own_directory(directory or _default_directory())
        if place is None or wanted < 1:
            return
        for core in sorted(usable):
            if len(claimed) < wanted and (lock := _lock(place / f"core-{core}")) is not None:
                claimed.append(core)
                self._locks.append(lock)
        if len(claimed) < wanted:
            self.release()
        else:
            self.cores = tuple(claimed)

    def release(self) -> None:
        """Leave the cores to others."""
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()
        self.cores = ()


def _default_directory() -> Path:
    return Path(tempfile.gettempdir()) / f"layerwise-cores-{os.getuid()}"


def _own_directory(path: Path) -> Path | None:
    """The directory if it is ours alone; in a place where all may write somebody else could have made it."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return path if is_ours else None


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None when another process does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
