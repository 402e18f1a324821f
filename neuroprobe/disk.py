"""Writing to a disk so that nothing is half-written, also where the disk is full."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from neuroprobe.errors import NeuroprobeError, StoreError
from neuroprobe.machine import human_bytes

# no room on the device; over the user's quota; over the largest file that is allowed
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NEARLY_NOTHING: Final = 64 << 10  # bytes; libraries that do not say why writing failed fail with less


def free_bytes(path: Path) -> int:
    """Bytes that are free on the file system of a path, which need not exist."""
    return shutil.disk_usage(next(folder for folder in (path, *path.absolute().parents) if folder.exists())).free


def used_bytes(path: Path) -> int:
    """Bytes of a file, or of the files in a folder; 0 if there is nothing."""
    if path.is_file():
        return path.stat().st_size
    n_bytes = 0
    for folder, _, files in os.walk(path):
        for file in files:
            # it may be gone by now: a run, or a thread of zarr's, had it for a while
            with suppress(FileNotFoundError):
                n_bytes += os.stat(os.path.join(folder, file)).st_size
    return n_bytes


@contextmanager
def no_room_explained(path: Path) -> Iterator[None]:
    """Turn every error of a full disk into a sentence.

    Parameters
    ----------
    path : Path
        That is written to.

    Raises
    ------
    StoreError
    """
    try:
        yield
    except NeuroprobeError:
        raise  # it is explained already
    except Exception as error:
        reason = _no_room(error, path)
        if reason is None:
            raise
        raise StoreError(
            f"{str(path)!r}: the disk is full ({reason}, {human_bytes(free_bytes(path))} free); free some space and "
            "run the same command again to go on"
        ) from error


def require_room(path: Path, n_bytes: int) -> None:
    """Refuse to write a file for which there is no room, before anything is written.

    Raises
    ------
    StoreError
    """
    free = free_bytes(path)
    if n_bytes > free:
        raise StoreError(
            f"{str(path)!r} may take {human_bytes(n_bytes)}, and {human_bytes(free)} of the disk are free; free some "
            "space and run the same command again, or choose a path on another disk"
        )


def _no_room(error: BaseException | None, path: Path) -> str | None:
    """Say how an error tells of a full disk; None if it is about something else."""
    original = error
    while error is not None:
        for number in FULL:
            # safetensors raises errors of its own, with the system's words
            if getattr(error, "errno", None) == number or f"os error {number})" in str(error):
                return os.strerror(number)
        error = error.__cause__ or error.__context__
    # netCDF says no more than that HDF failed
    if isinstance(original, OSError | RuntimeError) and "HDF" in str(original) and free_bytes(path) < NEARLY_NOTHING:
        return str(original)
    return None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to; the file gets its name when it is whole, and is removed if that fails."""
    temporary = path.with_name(f"{path.name}.tmp")
    with no_room_explained(path):
        try:
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name and rename it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str) -> None:
    """Append a line to a file so that it lasts; all of it or nothing."""
    with no_room_explained(path), path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            left = memoryview(f"{line}\n".encode())
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(before)
            raise


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, last through a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hold(descriptor: int, path: Path) -> None:
    """Lock an open file for this process, as long as it is open, where the system has such locks.

    Raises
    ------
    StoreError
        If another process holds it, which writes to the store at `path`.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no such lock: two runs into one store are up to the user there
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise StoreError(f"{str(path)!r}: another run is writing to it; wait for it, or choose another path") from None


def make_folder(path: Path, output: Path) -> None:
    """Make a folder with its parents, for an output.

    Raises
    ------
    StoreError
        If it cannot be made.
    """
    try:
        with no_room_explained(output):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_be_made(output, error) from None


def require_file_name(path: Path) -> None:
    """Refuse a place where no file can be written, and make the folder that it lies in."""
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise _cannot_be_made(path, error) from None
    if is_folder:
        raise StoreError(f"output {str(path)!r} is a folder; give the name of a file in it")
    make_folder(path.parent, path)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise _cannot_be_made(path, error) from None


def _cannot_be_made(path: Path, error: OSError) -> StoreError:
    return StoreError(f"output {str(path)!r} cannot be made ({error.strerror}); choose another path")
