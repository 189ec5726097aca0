from __future__ import annotations

import os
from pathlib import Path

from server.doctor.gpu_facts import Driver
from server.doctor.probe import Probe

STAND_IN = """
class NVMLError(Exception): pass
class NVMLError_NotSupported(NVMLError): pass
class NVMLError_DriverNotLoaded(NVMLError): pass
class Memory: total, free = 100, 40
def nvmlInit(): {init}
def nvmlSystemGetDriverVersion(): return b"580.65.06"
def nvmlSystemGetCudaDriverVersion_v2(): return 13000
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetMemoryInfo(gpu): return Memory
def nvmlDeviceGetCudaComputeCapability(gpu): return (9, 0)
def nvmlDeviceGetName(gpu): return "H200"
def nvmlDeviceGetUUID(gpu): return "MIG-" + gpu if isinstance(gpu, str) else "GPU-" + str(gpu)
def nvmlDeviceGetMaxMigDeviceCount(gpu): return 7
def nvmlDeviceGetMigMode(gpu):
    if gpu == 0: raise NVMLError_NotSupported()
    return [1, 1]
def nvmlDeviceGetMigDeviceHandleByIndex(gpu, index):
    if index > 1: raise NVMLError_NotSupported()
    return "ab"[index]
"""


def ask(folder: Path, init: str) -> Driver:
    """The probe beside a stand-in for NVIDIA's library."""
    (folder / "pynvml.py").write_text(STAND_IN.format(init=init))
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)}
    return Driver.read(Probe("server.doctor.driver_probe", environment, 60.0).answer())


def test_driver_gpus_and_slices_are_told(tmp_path: Path) -> None:
    driver = ask(tmp_path, "pass")
    assert (driver.version, driver.cuda, driver.error) == ("580.65.06", (13, 0), "")
    plain, sliced = driver.gpus
    assert (plain.name, plain.uuid, plain.capability, plain.total, plain.free) == (
        "H200",
        "GPU-0",
        (9, 0),
        100,
        40,
    )
    assert (plain.is_mig, sliced.is_mig, sliced.slices) == (False, True, ("MIG-a", "MIG-b"))


def test_an_error_of_the_driver_is_told_by_its_name(tmp_path: Path) -> None:
    driver = ask(tmp_path, "raise NVMLError_DriverNotLoaded('Driver Not Loaded')")
    assert (driver.error, driver.text) == ("DriverNotLoaded", "Driver Not Loaded")


def test_a_library_that_fails_otherwise_is_a_crash_not_a_crash_of_ours(tmp_path: Path) -> None:
    driver = ask(tmp_path, "raise OSError('libnvidia-ml.so.1: bad ELF')")
    assert driver.error == "Crashed" and "bad ELF" in driver.text
