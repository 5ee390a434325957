"""The file of a stored study: atomic creation, and its identity while it is open."""

from __future__ import annotations

import contextlib
import glob
import os
import pathlib
import stat
import uuid
from collections.abc import Callable, Iterator

from jhpo.errors import StorageError

SQLITE = b"SQLite format 3\0"  # how a database begins
FileIdentity = tuple[int, int]  # device and inode


def check_file(path: pathlib.Path, create: bool) -> bool:
    """Whether the file does not exist and may be created.

    Raises:
        StorageError: the file is not a database, it does not exist and must not be created, or the system refuses to
            look for it.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        found = None
    except OSError as error:  # a name that is too long, a folder that may not be searched, a link to itself
        raise StorageError(f"cannot open {path}: {error.strerror}") from error
    if found is None:
        if path.is_symlink():
            raise StorageError(f"{path} is a link to {path.readlink()}, which does not exist")
        if not create:
            raise StorageError(f"there is no study at {path}")
        if not path.parent.is_dir():
            raise StorageError(f"storage: the folder {path.parent} does not exist")
        return True
    if stat.S_ISDIR(found.st_mode):
        raise StorageError(f"storage: expected a file, got the folder {path}")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    if not head:
        raise StorageError(
            f"{path} is empty: expected a jhpo study. If it held one, bring it back from a copy; "
            "a new study needs a name that is not taken"
        )
    if head != SQLITE:
        raise StorageError(f"{path} is not a database: expected a jhpo study")
    return False


def create_file(path: pathlib.Path, fill: Callable[[pathlib.Path], None]) -> bool:
    """Creates a file atomically; returns False if another process was faster.

    Args:
        path: of the file; an existing file is never replaced.
        fill: writes the file under a temporary name in the same folder.

    Raises:
        StorageError: the file cannot be written.
    """
    draft = path.with_name(f".jhpo-{uuid.uuid4().hex}")  # no longer for a longer name
    try:
        fill(draft)
        made = _publish(draft, path)
        if made:
            _sync_folder(path.parent)
        return made
    except OSError as error:
        raise StorageError(f"cannot open {path}: no file can be made there ({error.strerror})") from error
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            if os.path.lexists(left := f"{draft}{end}"):  # a read-only disk refuses to remove what is not there, too
                os.unlink(left)


def _publish(draft: pathlib.Path, path: pathlib.Path) -> bool:
    with _turn(path.parent):
        if path.exists():
            return False
        _set_aside(path)
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        except OSError:
            draft.rename(path)  # a file system without hard links
        return True


def _set_aside(path: pathlib.Path) -> None:
    """Renames the write-ahead log left by a file that was moved away: SQLite would apply it to the new file."""
    number = 1
    while list(path.parent.glob(f"{glob.escape(path.name)}.left{number}-*")):
        number += 1
    for end in ("-wal", "-shm", "-journal"):
        left = pathlib.Path(f"{path}{end}")
        if left.exists():
            left.rename(f"{path}.left{number}{end}")


@contextlib.contextmanager
def _turn(folder: pathlib.Path) -> Iterator[None]:
    """Lock on `folder` for one process at a time; not needed on Windows, where `rename` never replaces a file."""
    if os.name == "nt":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync_folder(folder: pathlib.Path) -> None:
    """Syncs a folder to disk, and with it the name of a new file."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_identity(path: pathlib.Path) -> FileIdentity | None:
    """Device and inode of a file, which distinguish it from another with the same name; None if it is gone or empty."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_size else None
