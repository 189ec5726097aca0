"""What executes a network: uint8 pixels in, the head's raw output out. Runs in a worker.

    runtime.py         what every runtime has in common
    torch_runtime.py   PyTorch, on the CPU or one GPU

Post-processing is not here, so that it is the same code whatever executes the network.
"""
