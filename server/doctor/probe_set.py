"""The probes that every examination needs, started before anything else: they take longest. Light at import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from server.doctor.decoders import LIMIT
from server.doctor.probe import Probe
from server.settings import Settings

DRIVER_LIMIT = 20.0
TORCH_LIMIT = 90.0
"""A cold disk, and a context on each of several GPUs."""


@dataclass(frozen=True, slots=True)
class ProbeSet:
    """They run beside the rest."""

    driver: Probe
    torch: Probe
    openvino: Probe
    decoders: Probe

    @classmethod
    def start(cls, settings: Settings, variables: Mapping[str, str]) -> ProbeSet:
        """`variables` is the environment that workers will inherit."""
        # As workers will see the GPUs; and where none is to be used a driver that hangs shall not matter.
        visible = "" if settings.device == "cpu" else settings.cuda_visible_devices
        shown = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        return cls(
            Probe("server.doctor.driver_probe", variables, DRIVER_LIMIT),
            Probe("models.probes.torch_probe", {**variables, **shown}, TORCH_LIMIT),
            Probe("models.probes.openvino_probe", variables, TORCH_LIMIT),
            Probe("server.doctor.decoders_probe", variables, LIMIT),
        )
