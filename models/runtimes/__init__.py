"""What executes a network: uint8 pixels in, the head's raw output out. Runs in a worker.

    runtime.py         what every runtime has in common
    torch_runtime.py   PyTorch, on the CPU
    cuda_runtime.py    PyTorch, on one GPU: cuda_device.py, cuda_lanes.py (pixels), cuda_graphs.py (the network)
    tensorrt_runtime.py  TensorRT, on one GPU: tensorrt_engine.py builds and keeps its engines
    gpu.py             which of the two, and in what precision

Post-processing is not here, so that it is the same code whatever executes the network.
"""
