"""What executes a network: uint8 pixels in, the head's raw output out. Runs in a worker.

    runtime.py            what every runtime has in common
    torch_runtime.py      PyTorch, on the CPU or one GPU
    openvino_runtime.py   OpenVINO, on the CPU
    conversion.py         from a network in PyTorch to one for OpenVINO
    converted.py          converted networks on the disk
    agreement.py          how far two raw outputs lie apart
    wish.py               what the operator asks for, and what cannot be had
    choice.py             which runtime and precision `auto` takes
    network.py            all of it together: weights in, a runtime out

Post-processing is not here, so that it is the same code whatever executes the network.
"""

import sys

# Importing openvino imports openvino_telemetry, which reports that to Google Analytics unless a file in the home folder
# says no. Made impossible here, openvino takes the stub it brings along. Everybody who imports openvino in this
# project imports this package first.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
