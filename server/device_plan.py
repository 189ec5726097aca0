"""Which devices are whose: those that a model was given in the settings, and those that all others share."""

from __future__ import annotations

from server.devices import NoSuchDeviceError, pick_devices
from server.model_settings import ModelSettings
from server.settings import Settings

CPU = ("cpu",)


class DevicePlan:
    """Fixed when the server starts."""

    def __init__(self, settings: Settings, num_gpus: int | None = None) -> None:
        """`num_gpus` is what the machine has (None: asked for, by each device that is no CPU). Raises
        NoSuchDeviceError."""
        self._visible = settings.cuda_visible_devices
        self._num_gpus = num_gpus
        self._own = {
            name: spots
            for name, table in settings.models.items()
            if (spots := self._own_spots(name, table)) is not None
        }
        owners = {
            device: name
            for name, spots in self._own.items()
            if settings.models[name].dedicated
            for device in spots
        }
        for name, spots in self._own.items():
            for device in spots:
                if owners.get(device, name) != name:
                    raise NoSuchDeviceError(f"models.{name}: {device} is dedicated to {owners[device]}")
        picked = pick_devices(settings.device, self._visible, self._num_gpus)
        self.shared = tuple(device for device in picked if device not in owners)
        """Of every model that was given none of its own."""
        if not self.shared:
            if settings.device != "auto":
                raise NoSuchDeviceError(
                    f"device = {settings.device}: all of it is dedicated to single models"
                )
            self.shared = CPU

    def devices_of(self, model_id: str) -> tuple[str, ...]:
        """For `pool.place`: each device once, or as often as the model was told to have replicas there."""
        return self._own.get(model_id, self.shared)

    @property
    def all_devices(self) -> tuple[str, ...]:
        """Every device that a model could go to, each once."""
        return tuple(
            dict.fromkeys(device for spots in (self.shared, *self._own.values()) for device in spots)
        )

    @property
    def has_gpu(self) -> bool:
        """Whether one of them is none of the CPU's."""
        return self.all_devices != CPU

    def _own_spots(self, name: str, table: ModelSettings) -> tuple[str, ...] | None:
        try:
            if isinstance(table.replicas, dict):
                return tuple(
                    self._pick(device)[0] for device, count in table.replicas.items() for _ in range(count)
                )
            return self._pick(table.device) if table.device is not None else None
        except NoSuchDeviceError as error:
            raise NoSuchDeviceError(f"models.{name}: {error}") from None

    def _pick(self, wanted: str) -> tuple[str, ...]:
        return pick_devices(wanted, self._visible, self._num_gpus)
