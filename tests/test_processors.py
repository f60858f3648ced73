from __future__ import annotations

import os

import pytest

from sidecar.processors import usable_processors

MANY = 10_000
HERE = len(os.sched_getaffinity(0))
V2 = "31 23 0:28 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that writes what a kernel says; the process may be scheduled on 64 CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))

    def says(mounts, memberships, **files):
        for name, text in {
            "proc/self/mountinfo": mounts,
            "proc/self/cgroup": memberships,
            **{f"sys/fs/cgroup/{path}": text for path, text in files.items()},
        }.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return usable_processors(at_most=MANY, root=tmp_path)

    return says


def test_without_any_limit_it_is_what_the_process_may_be_scheduled_on(tmp_path):
    assert usable_processors(at_most=MANY, root=tmp_path) == HERE


def test_there_is_at_least_one_and_at_most_what_is_said(tmp_path):
    assert usable_processors(at_most=1, root=tmp_path) == 1
    assert usable_processors(at_most=0, root=tmp_path) == 1


@pytest.mark.parametrize(
    ("quota", "wanted"),
    [("100000 100000", 1), ("150000 100000", 2), ("5000 100000", 1), ("max 100000", 64), ("broken", 64)],
)
def test_a_quota_of_version_2_is_rounded_up(machine, quota, wanted):
    assert machine(V2.format(root="/"), "0::/\n", **{"cpu.max": f"{quota}\n"}) == wanted


@pytest.mark.parametrize(("quota", "wanted"), [("250000", 3), ("-1", 64)])
def test_a_quota_of_version_1_is_rounded_up(machine, quota, wanted):
    files = {"cpu,cpuacct/pod/cpu.cfs_quota_us": quota, "cpu,cpuacct/pod/cpu.cfs_period_us": "100000"}

    assert machine(V1.format(root="/"), "4:cpu,cpuacct:/pod\n3:memory:/\n", **files) == wanted


def test_the_limit_of_a_cgroup_above_counts_too(machine):
    files = {"pod/cpu.max": "200000 100000", "pod/one/cpu.max": "max 100000"}

    assert machine(V2.format(root="/"), "0::/pod/one\n", **files) == 2


def test_a_container_may_see_the_hosts_path_of_its_cgroup(machine):
    files = {"cpu.max": "300000 100000"}

    assert machine(V2.format(root="/docker/abc"), "0::/docker/abc\n", **files) == 3
    assert machine(V2.format(root="/"), "0::/docker/abc\n", **files) == 3


def test_both_versions_beside_each_other_count(machine):
    files = {
        "unified/cpu.max": "700000 100000",
        "cpu,cpuacct/cpu.cfs_quota_us": "400000",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
    }
    unified = V2.format(root="/").replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ")

    assert machine(V1.format(root="/") + unified, "1:cpu,cpuacct:/\n0::/\n", **files) == 4
