from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pool.core_budget import CoreBudget
from server.doctor.probe import Answer
from server.doctor.processor import Processor, check_openvino, check_processor, read_processor
from tests.server.doctor.facts import named, statuses

AMX = frozenset({"avx2", "avx512f", "avx512_vnni", "amx_bf16", "amx_int8"})
GOOD = Processor("Xeon", "x86_64", AMX, 8, range(8), CoreBudget.of(range(8)))


def test_what_a_processor_can_do_is_named() -> None:
    text = named(check_processor(GOOD), "instructions").text
    assert "AVX2, AVX-512, AVX-512 VNNI, AMX bf16, AMX int8" in text and "bf16 is fast" in text
    plain = replace(GOOD, flags=frozenset({"avx2"}))
    assert "no bf16 in hardware" in named(check_processor(plain), "instructions").text
    assert set(statuses(check_processor(plain)).values()) == {"ok"}


def test_a_machine_without_avx2_is_warned_of_but_not_one_of_another_kind() -> None:
    old = named(check_processor(replace(GOOD, flags=frozenset({"sse2"}))), "instructions")
    assert old.status == "warning" and "-cpu host" in old.remedy
    arm = replace(GOOD, architecture="aarch64", flags=frozenset({"asimd", "bf16"}))
    assert statuses(check_processor(arm))["instructions"] == "ok"


def test_cores_are_told_with_what_cuts_them() -> None:
    assert named(check_processor(GOOD), "cores").text == "8 of 8 cores usable"
    cut = named(check_processor(replace(GOOD, usable=CoreBudget(2))), "cores").text
    assert cut == "2 of 8 cores usable (the container's CPU quota of 2: not pinned)"
    pinned = replace(GOOD, allowed=range(4), usable=CoreBudget.of(range(4)))
    assert "affinity" in named(check_processor(pinned), "cores").text
    single = named(check_processor(replace(GOOD, usable=CoreBudget(1))), "cores")
    assert single.status == "warning" and "--cpus 2" in single.remedy


def test_flags_and_quota_are_read_from_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2\n\n")
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    found = read_processor(tmp_path / "cpuinfo", tmp_path / "cpu.max")
    assert (found.name, found.flags, found.usable.num_cores) == ("AMD EPYC", {"fpu", "avx2"}, 1)
    assert read_processor(tmp_path / "none", tmp_path / "none").flags == frozenset()


def test_openvino_is_told_with_its_precisions_and_missed_with_a_warning() -> None:
    facts = {
        "version": "2026.4-22982-abc",
        "devices": {"CPU": {"name": "Xeon", "capabilities": ["FP32", "BF16"]}},
    }
    assert check_openvino(Answer(facts)).text == "OpenVINO 2026.4 on the CPU: FP32, BF16"
    assert check_openvino(Answer({}, "ImportError: no")).status == "warning"
    assert check_openvino(Answer({"version": "1", "devices": {}})).status == "warning"
