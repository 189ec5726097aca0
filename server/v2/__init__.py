"""The Open Inference Protocol, version 2 of KServe, Triton and MLServer: their words for what `POST /inference` does.

tensors.py   a body's JSON and binary parts ──▶ tensors
images.py    tensors ──▶ requests, one for each image
infer.py     requests ──▶ Answering ──▶ answers
outputs.py   answers ──▶ tensors
binary.py    tensors ──▶ a body
"""
