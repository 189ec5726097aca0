from __future__ import annotations

from pathlib import Path

from pool.memory import available_memory, memory_limit

GIB = 1 << 30


def machine(
    folder: Path, available: int, limit: str | None, current: int = 0, inactive_file: int = 0
) -> tuple[Path, Path]:
    meminfo = folder / "meminfo"
    meminfo.write_text(f"MemTotal: 99 kB\nMemAvailable:   {available // 1024} kB\n")
    if limit is not None:
        (folder / "memory.max").write_text(limit + "\n")
        (folder / "memory.current").write_text(f"{current}\n")
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive_file}\n")
    return folder, meminfo


def test_without_a_cgroup_the_machine_decides(tmp_path: Path) -> None:
    assert available_memory(*machine(tmp_path, 4 * GIB, None)) == 4 * GIB


def test_an_unlimited_cgroup_leaves_it_to_the_machine(tmp_path: Path) -> None:
    assert available_memory(*machine(tmp_path, 4 * GIB, "max", GIB)) == 4 * GIB


def test_the_cgroups_limit_counts_and_droppable_page_cache_does_not(tmp_path: Path) -> None:
    assert available_memory(*machine(tmp_path, 4 * GIB, str(2 * GIB), GIB, GIB // 2)) == GIB + GIB // 2


def test_it_is_never_negative(tmp_path: Path) -> None:
    assert available_memory(*machine(tmp_path, 4 * GIB, str(GIB), 2 * GIB)) == 0


def test_this_machine_has_some() -> None:
    assert available_memory() > 0


def test_the_whole_is_the_smaller_of_cgroup_and_machine(tmp_path: Path) -> None:
    machine(tmp_path, GIB, None)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: {8 * GIB // 1024} kB\n")
    assert memory_limit(tmp_path, meminfo) == 8 * GIB
    for limit, expected in (("max", 8 * GIB), (str(2 * GIB), 2 * GIB), (str(9 * GIB), 8 * GIB)):
        (tmp_path / "memory.max").write_text(limit + "\n")
        assert memory_limit(tmp_path, meminfo) == expected
