"""A file that one process at a time may write: the lock goes with the process, however it ends."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows: its files that are open for writing are locked as it is)
    fcntl = None  # type: ignore[assignment]

_MODE = os.O_RDWR | os.O_CREAT
for _flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):  # without waiting for who reads a pipe
    _MODE |= getattr(os, _flag, 0)


NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems say that know no locks: there one run at a time is the user's business."""


LOCKS = fcntl is not None
"""Whether a file that is open can be renamed and removed, and is locked: not on Windows."""


class Taken(Exception):
    """Another process writes the file."""


def open_locked(path: Path) -> int:
    """Open a file for reading and writing, make it where there is none, and lock it.

    Parameters
    ----------
    path
        The file. A symbolic link is not followed; a pipe, a device or a file with a second name is not taken.

    Returns
    -------
    int
        Its descriptor; the lock is held until it is closed or the process ends.

    Raises
    ------
    Taken
        When another process has it.
    OSError
        When it cannot be opened.
    """
    while True:
        try:
            descriptor = os.open(path, _MODE, 0o666)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, "what is there is a symbolic link") from None
            raise
        try:
            _demand_own(descriptor)
            _lock(descriptor)
            if _still_there(descriptor, path):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise Taken(str(path)) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was renamed or removed between opening and locking: what is there now is another


def _demand_own(descriptor: int) -> None:
    """Nobody else may lose anything when it is written."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise OSError(errno.EINVAL, "what is there is a pipe, a device, or a file with several names")


def _lock(descriptor: int) -> None:
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def _still_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
