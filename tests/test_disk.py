"""A disk that is full loses nothing: at every write, torn or not, by the kernel's own refusal, on a real small disk."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import xarray as xr
import zarr.storage._local

import neuroprobe as npr
from neuroprobe import disk
from neuroprobe.disk import append_line, free_bytes, no_room_explained, replacing, require_room, used_bytes, write_text
from neuroprobe.errors import ResponseError, StoreError
from neuroprobe.export import export_netcdf
from neuroprobe.journal import RUN_FOLDER, journal_entries
from neuroprobe.report import write_report
from test_runner import assert_equal, protocol

pytestmark = pytest.mark.filterwarnings("ignore:.*(standard errors|not a power of two|upper bound):UserWarning")

STORED = {"batch": 64, "store": {"responses": ["linear"]}}
GIVEN = protocol(design={"samples": 256, "scramble": 64}, record=STORED)
FULL = "the disk is full .*; free some space and run the same command again to go on"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    path = tmp_path_factory.mktemp("whole") / "out.zarr"
    npr.run(GIVEN, path)
    return path


def assert_same(one: Path, other: Path) -> None:
    """Results and stored responses are the same, bit for bit."""
    assert_equal(npr.open_result(one), npr.open_result(other))
    mine, theirs = (npr.open_recording(path)["responses/linear"].to_dataset().load() for path in (one, other))
    xr.testing.assert_identical(mine, theirs)


def assert_nothing_torn(path: Path) -> None:
    """No temporary file, and no line of the journal without its end."""
    # zarr's threads may still write when the failure is told: what they hold is gone when they are done
    for _ in range(100):
        # the next run deletes the staging copy
        outside = [file for file in path.rglob("*") if "staging.zarr" not in file.parts]
        unfinished = [file for file in outside if file.suffix in {".tmp", ".partial"}]
        if not unfinished:
            break
        time.sleep(0.05)
    assert not unfinished
    journal = path / RUN_FOLDER / "journal.jsonl"
    if journal.exists():
        assert not journal.read_bytes() or journal.read_bytes().endswith(b"\n")
        states = {entry["file"] for entry in journal_entries(path)}
        assert {file.name for file in path.glob(f"{RUN_FOLDER}/*.safetensors")} <= states


# pieces


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_errors_of_a_full_disk_are_explained(tmp_path: Path, number: int) -> None:
    """The system's, those that it caused, and those that only carry its words."""
    system = OSError(number, os.strerror(number))
    worded = safetensors.SafetensorError(f"Error while serializing: I/O error: x (os error {number})")
    caused = RuntimeError("could not write")
    caused.__cause__ = system
    for error in (system, worded, caused):
        with pytest.raises(StoreError, match=FULL) as found, no_room_explained(tmp_path / "out.zarr"):
            raise error
        assert os.strerror(number) in str(found.value)
        assert "out.zarr" in str(found.value)


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "Permission denied"), ValueError("no"), ResponseError("x"), KeyboardInterrupt()]
)
def test_other_errors_stay_as_they_are(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as found, no_room_explained(tmp_path):
        raise error
    assert found.value is error


@pytest.mark.parametrize(("free", "kind"), [(100, StoreError), (10**9, RuntimeError)])
def test_an_error_of_hdf_is_one_of_a_full_disk_where_nothing_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, kind: type
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda path: free)
    with pytest.raises(kind), no_room_explained(tmp_path):
        raise RuntimeError("NetCDF: HDF error")


def test_a_file_is_replaced_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_text(file, "old")

    def write_half() -> None:
        with replacing(file) as temporary:
            temporary.write_text("half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert file.read_text() == "old"
    write_text(file, "new")
    assert file.read_text() == "new"


class Short:
    """A file to which a system writes a few bytes at a time, until its disk is full."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self) -> "Short":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, data: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        n = self.file.write(data[: min(3, self.room)])
        self.room -= n
        return n


@pytest.mark.parametrize("room", [0, 1, 5, 8, 9])
def test_a_line_is_appended_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Also where the system takes a part of what it is given, and says so only by a number."""
    file, opened = tmp_path / "journal", Path.open
    append_line(file, "first")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, *args, **kwargs: Short(opened(path, *args, **kwargs), room))
        if room < len("second!!\n"):
            with pytest.raises(StoreError, match=FULL):
                append_line(file, "second!!")
        else:
            append_line(file, "second!!")
    append_line(file, "third")
    expected = ["first", "third"] if room < 9 else ["first", "second!!", "third"]
    assert file.read_text().splitlines() == expected


def test_room_on_the_disk(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "there") == pytest.approx(free_bytes(tmp_path), abs=1 << 30)
    assert used_bytes(tmp_path / "not") == 0
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"123")
    (tmp_path / "b").write_bytes(b"45")
    assert (used_bytes(tmp_path), used_bytes(tmp_path / "b")) == (5, 2)
    require_room(tmp_path / "c", 1)
    with pytest.raises(StoreError, match=r"may take 1e\+06 TB, and .* of the disk are free"):
        require_room(tmp_path / "c", 10**18)


# runs


@contextmanager
def failing(n: int, torn: bool, number: int = errno.ENOSPC) -> Iterator[list[str]]:
    """Let the n-th write of a run fail, after a part of it where `torn`; gives what was written, in order."""
    written: list[str] = []

    def refuse(kind: str) -> bool:
        written.append(kind)
        return len(written) == n

    def full() -> OSError:
        return OSError(number, os.strerror(number))

    def wrap(kind: str, write: Callable[..., Any], part: Callable[..., None]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if refuse(kind):
                if torn:
                    part(*args, **kwargs)
                raise full()
            return write(*args, **kwargs)

        return wrapped

    opened, put = Path.open, zarr.storage._local._atomic_write

    @contextmanager
    def put_part(path: Path, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with put(path, *args, **kwargs) as file:
            if refuse("zarr"):
                if torn:
                    file.write(b"half")
                raise full()
            yield file

    def open_short(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = opened(path, mode, *args, **kwargs)
        is_journal = path.name == "journal.jsonl" and mode == "ab"
        return Short(file, 7 if torn else 0) if is_journal and refuse("journal") else file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            safetensors.torch,
            "save_file",
            wrap("state", safetensors.torch.save_file, lambda arrays, path: path.write_bytes(b"half")),
        )
        patch.setattr(
            Path, "write_text", wrap("text", Path.write_text, lambda path, text, **options: path.write_bytes(b"half"))
        )
        patch.setattr(zarr.storage._local, "_atomic_write", put_part)
        patch.setattr(Path, "open", open_short)
        patch.setattr(os, "fsync", wrap("sync", os.fsync, lambda descriptor: None))
        yield written


def test_all_kinds_of_writes_can_fail(tmp_path: Path) -> None:
    with failing(0, torn=False) as written:
        npr.run(GIVEN, tmp_path / "out.zarr")
    assert set(written) == {"state", "text", "zarr", "journal", "sync"}
    # the parametrisation below goes through them
    assert 150 < len(written) < 1000


STARTS = range(1, 42) if "EVERY_WRITE" in os.environ else (1, 4, 12, 27)
STEP = 41


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("torn", [False, True])
def test_a_run_whose_writes_fail_goes_on_to_the_same_bits(tmp_path: Path, whole: Path, start: int, torn: bool) -> None:
    """Each run of the same command fails at a later write than the one before, until one does not."""
    out, failures = tmp_path / "out.zarr", []
    for n in range(start, 1000, STEP):
        try:
            with failing(n, torn):
                npr.run(GIVEN, out)
            break
        except StoreError as error:
            failures.append(str(error))
        assert_nothing_torn(out)
    assert len(failures) >= 2
    assert all("the disk is full (No space left on device" in failure for failure in failures)
    assert_same(out, whole)


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EFBIG])
def test_quotas_and_limits_are_full_disks_too(tmp_path: Path, whole: Path, number: int) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(StoreError, match=FULL), failing(60, torn=True, number=number):
        npr.run(GIVEN, out)
    npr.run(GIVEN, out)
    assert_same(out, whole)


def test_an_extension_that_finds_the_disk_full_keeps_the_old_result(tmp_path: Path, whole: Path) -> None:
    out = tmp_path / "out.zarr"
    short = npr.run(protocol(design={"samples": 128, "scramble": 64}, record=STORED), out).load()
    with pytest.raises(StoreError, match=FULL), failing(12, torn=True):
        npr.run(GIVEN, out)
    assert_equal(npr.open_result(out), short)
    npr.run(GIVEN, out)
    assert_same(out, whole)


LIMITED = """
import json, resource, sys, warnings
warnings.simplefilter("ignore")
import neuroprobe as npr
import neuroprobe.runner
given, out = json.load(open(sys.argv[1])), sys.argv[2]
failures = []
for largest in [int(size) for size in sys.argv[3].split(",")]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    try:
        npr.run(given, out)
    except npr.NeuroprobeError as error:
        failures.append(str(error))
print(json.dumps(failures))
"""


def test_the_kernel_s_own_refusal(tmp_path: Path, whole: Path) -> None:
    """Files over a limit are cut off by the kernel, in the middle of a write."""
    pytest.importorskip("resource")
    out, given = tmp_path / "out.zarr", tmp_path / "p.json"
    given.write_text(json.dumps(GIVEN))
    limits = [100, 400, 700, 1000, 2000, 3000, 5000, 7000, 12000, 1 << 40]
    command = [sys.executable, "-c", LIMITED, str(given), str(out), ",".join(map(str, limits))]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    failures = json.loads(found.stdout.splitlines()[-1])
    assert len(failures) >= 4
    assert all("the disk is full (File too large" in failure for failure in failures)
    assert_nothing_torn(out)
    assert_same(out, whole)


GROWING = """
import json, subprocess, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
import neuroprobe as npr
import neuroprobe.runner
# the plan would refuse a disk of this size
neuroprobe.runner.require_disk = lambda *_, **__: None
given, disk, size, failures = json.load(open(sys.argv[1])), Path(sys.argv[2]), 8 << 10, []
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
while True:
    try:
        npr.run(given, disk / "out.zarr")
        break
    except npr.NeuroprobeError as error:
        failures.append(str(error))
        size += 90 << 10
        subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
subprocess.run(["cp", "-r", disk / "out.zarr", sys.argv[3]], check=True)
print(json.dumps(failures))
"""


def test_a_real_disk_that_is_always_a_little_too_small(tmp_path: Path, whole: Path) -> None:
    try:
        subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file systems can be mounted here: {error}")
    given, mount = tmp_path / "p.json", tmp_path / "disk"
    given.write_text(json.dumps(GIVEN))
    mount.mkdir()
    command = ["unshare", "-rm", sys.executable, "-c", GROWING, str(given), str(mount), str(tmp_path / "copy.zarr")]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    failures = json.loads(found.stdout.splitlines()[-1])
    assert len(failures) > 5
    assert all("the disk is full (No space left on device" in failure for failure in failures)
    assert_same(tmp_path / "copy.zarr", whole)


# reports and exports


def test_a_report_on_a_full_disk(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(StoreError, match=FULL), failing(1, torn=True):
        write_report(whole, tmp_path / "out.html")
    assert not list(tmp_path.iterdir())
    write_report(whole, tmp_path / "out.html")


def test_an_export_is_not_begun_where_it_may_not_fit(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A netCDF file that could not be finished would be held by its library, with the room that it takes."""
    with monkeypatch.context() as patch:
        patch.setattr(disk, "free_bytes", lambda path: 1000)
        with pytest.raises(StoreError, match=r"out.nc' may take .*, and 1 kB of the disk are free"):
            export_netcdf(whole, tmp_path / "out.nc")
    assert not list(tmp_path.iterdir())
    export_netcdf(whole, tmp_path / "out.nc")
    # what was asked for was enough
    asked: list[int] = []
    monkeypatch.setattr("neuroprobe.netcdf.require_room", lambda path, n_bytes: asked.append(n_bytes))
    export_netcdf(whole, tmp_path / "again.nc")
    assert (tmp_path / "again.nc").stat().st_size <= asked[0]


def test_an_export_that_finds_the_disk_full_leaves_nothing(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tree: xr.DataTree, path: Path, **_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(xr.DataTree, "to_netcdf", fail)
    with pytest.raises(StoreError, match=FULL):
        export_netcdf(whole, tmp_path / "out.nc")
    assert not list(tmp_path.iterdir())
