"""What the machine offers: amounts of memory, and the limits of control groups under a made-up root."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe import machine
from neuroprobe.errors import PlanError
from neuroprobe.machine import Budget, cgroup_free, find_budget, human_bytes, parse_bytes

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("given", "n_bytes"),
    [
        ("4GB", 4 * 10**9),
        ("512MB", 512 * 10**6),
        ("4GiB", 4 << 30),
        (" 1.5 gb ", 1_500_000_000),
        ("4000000000", 4 * 10**9),
        (4_000_000_000, 4 * 10**9),
        (2.5e9, 2_500_000_000),
    ],
)
def test_amounts_of_memory(given, n_bytes):
    assert parse_bytes(given) == n_bytes


@pytest.mark.parametrize("given", ["", "GB", "4 gigs", "-4GB", "4,5GB", "inf", "nan", "many", "4", 4, 0, -1, True])
def test_what_is_no_amount_is_refused_with_examples(given):
    with pytest.raises(PlanError, match=r"memory: given .*, expected an amount such as 4GB, 512MB, 4GiB or 4000000000"):
        parse_bytes(given)


@given(st.integers(0, 999 * 10**12))
def test_human_bytes_has_three_digits_and_says_the_amount(number):
    value, unit = human_bytes(number).split()
    assert float(value) < 1000
    power = ("B", "kB", "MB", "GB", "TB").index(unit)
    assert float(value) * 1000**power == pytest.approx(number, rel=5e-3)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


JOB = "sys/fs/cgroup/slurm/job_1"
V1 = "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        # version 2, in a container that sees its own group at the top
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "1000\n",
                "sys/fs/cgroup/memory.current": "400\n",
                "sys/fs/cgroup/memory.stat": "anon 300\ninactive_file 50\n",
            },
            650,
        ),
        # a step of a job: the limit is the job's
        (
            {
                "proc/self/cgroup": "0::/slurm/job_1/step_0\n",
                f"{JOB}/step_0/memory.max": "max\n",
                f"{JOB}/step_0/memory.current": "300\n",
                f"{JOB}/memory.max": "1000\n",
                f"{JOB}/memory.current": "700\n",
            },
            300,
        ),
        # the tightest of several limits
        (
            {
                "proc/self/cgroup": "0::/slurm/job_1\n",
                f"{JOB}/memory.max": "1000\n",
                f"{JOB}/memory.current": "100\n",
                "sys/fs/cgroup/slurm/memory.max": "2000\n",
                "sys/fs/cgroup/slurm/memory.current": "1500\n",
            },
            500,
        ),
        # over its limit
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "1000\n",
                "sys/fs/cgroup/memory.current": "1200\n",
            },
            0,
        ),
        # version 1, beside other controllers; the group of the host is not visible inside the container
        (
            {
                "proc/self/cgroup": "9:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n0::/\n",
                f"{V1}/memory.limit_in_bytes": "1000\n",
                f"{V1}/memory.usage_in_bytes": "900\n",
                f"{V1}/memory.stat": "inactive_file 1\ntotal_inactive_file 100\n",
            },
            200,
        ),
        # no limit, in words of either version; and no control groups at all
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "max\n",
                "sys/fs/cgroup/memory.current": "1\n",
            },
            None,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/a\n",
                f"{V1}/a/memory.limit_in_bytes": "9223372036854771712\n",
                f"{V1}/a/memory.usage_in_bytes": "1\n",
            },
            None,
        ),
        ({}, None),
    ],
)
def test_limits_of_control_groups(tmp_path, files, free):
    assert cgroup_free(write(tmp_path, files)) == free


@pytest.mark.parametrize(
    ("available", "group", "memory", "source"),
    [
        (5000, None, 6000, "what this machine has free"),
        (5000, 8000, 6000, "what this machine has free"),
        (5000, 3000, 4000, "what this container or job has free"),
    ],
)
def test_the_budget_is_what_is_there_and_what_is_free(monkeypatch, available, group, memory, source):
    monkeypatch.setattr(machine, "_available", lambda: available)
    monkeypatch.setattr(machine, "cgroup_free", lambda: group)
    monkeypatch.setattr(machine, "resident_bytes", lambda: 1000)
    assert find_budget(None, CPU) == Budget(memory, None, source)
    assert find_budget(7, CPU) == Budget(7, None, "by `memory`")


def test_the_budget_of_this_machine():
    found = find_budget(None, CPU)
    held = np.ones(30_000_000)
    assert machine.resident_bytes() > held.nbytes
    assert found.memory > machine.resident_bytes()


@pytest.mark.parametrize(
    ("memory", "device", "holds"), [(9, 0, True), (11, 0, False), (9, 5, True), (9, 6, False), (11, 6, False)]
)
def test_a_budget_holds_what_is_within_both_of_its_numbers(memory, device, holds):
    assert Budget(10, 5, "").holds(memory, device) is holds
    assert not Budget(10, None, "").holds(1, 1)
