"""What OpenVINO sees: its devices and what each of them can compute in."""

from __future__ import annotations

from models.probes.saying import say


def main() -> None:
    """Say it."""
    say(stage="importing openvino")
    import openvino

    say(version=openvino.__version__, stage="asking OpenVINO for its devices")
    core = openvino.Core()
    say(
        devices={
            device: {
                "name": str(core.get_property(device, "FULL_DEVICE_NAME")).strip(),
                "capabilities": list(core.get_property(device, "OPTIMIZATION_CAPABILITIES")),
            }
            for device in core.available_devices
        }
    )


if __name__ == "__main__":
    main()
