"""What executes a network: uint8 pixels in, the head's raw output out. Runs in a worker.

    runtime.py         what every runtime has in common
    torch_runtime.py   PyTorch, on the CPU or one GPU
    blip_runtime.py    what BLIP's runtimes have in common, blip_torch.py and blip_openvino.py
    blip_functions.py  its networks as functions of tensors, which blip_conversion.py traces

Post-processing is not here, so that it is the same code whatever executes the network.
"""
