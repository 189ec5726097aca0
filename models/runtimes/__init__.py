"""What executes a network: uint8 pixels in, the head's raw output out. Runs in a worker.

    runtime.py            what every runtime has in common
    torch_runtime.py      PyTorch, on the CPU
    openvino_runtime.py   OpenVINO, on the CPU
    conversion.py         from a network in PyTorch to one for OpenVINO
    converted.py          converted networks on the disk
    agreement.py          how far two raw outputs lie apart
    wish.py               what the operator asks for, and what cannot be had
    choice.py             which runtime and precision `auto` takes on the CPU
    cuda_runtime.py       PyTorch, on one GPU: cuda_device.py, cuda_lanes.py (pixels), cuda_graphs.py (the network)
    tensorrt_runtime.py   TensorRT, on one GPU: tensorrt_engine.py builds and keeps its engines
    gpu.py                which of the two, and in what precision
    network.py            all of it together: weights in, a runtime out
    blip_runtime.py       what BLIP's runtimes have in common, blip_torch.py and blip_openvino.py
    blip_functions.py     its networks as functions of tensors, which blip_conversion.py traces
    blip_agreement.py     whether what it wrote says the same

Post-processing is not here, so that it is the same code whatever executes the network.
"""

import sys

# Importing openvino imports openvino_telemetry, which reports that to Google Analytics unless a file in the home folder
# says no. Made impossible here, openvino takes the stub it brings along. Everybody who imports openvino in this
# project imports this package first.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
