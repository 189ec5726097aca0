"""A BLIP checkpoint as OpenVINO's files. In a worker; torch and openvino are imported inside."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.blip_checkpoint import BlipCheckpoint
from models.runtimes.blip_functions import reader, seer, stepper
from models.runtimes.blip_openvino import QUESTION, STEP, VISION
from models.runtimes.conversion import ConversionError, save_network

if TYPE_CHECKING:
    import openvino
    import torch


def write(checkpoint: BlipCheckpoint, folder: Path, is_compressed: bool) -> None:
    """Write the networks. Weights stay float32, or become int8 if `is_compressed`. Raises
    ConversionError, OSError."""
    import torch

    network, traits = checkpoint.network.requires_grad_(False), checkpoint.traits
    side = traits.image_size
    # Two of everything that may be of any number: what a trace sees once it takes for one.
    rows, tokens, before = 2, 3, 2
    with torch.no_grad():
        pixels = torch.zeros((rows, side, side, 3), dtype=torch.uint8)
        see = seer(network, checkpoint.normalisation, torch.device("cpu"))
        images = see(pixels)
        ids = torch.zeros((rows, tokens), dtype=torch.int64)
        mask = torch.ones((rows, tokens))
        looked_at: Mapping[str, torch.Tensor] = {"images": images}
        _write(see, {"pixels": pixels}, {"pixels": (-1, side, side, 3)}, folder / VISION, is_compressed)
        patches = {"images": (-1, *images.shape[1:])}
        kept = (traits.layers, -1, traits.heads, -1, traits.head_width)
        shapes: dict[str, tuple[int, ...]] = patches
        if traits.task == "vqa":
            read = reader(network)
            _write(
                read, {"ids": ids, "mask": mask, "images": images}, patches, folder / QUESTION, is_compressed
            )
            keys, values = read(ids, mask, images)
            looked_at = {
                "question_keys": keys,
                "question_values": values,
                "question_bias": mask[:, None, None],
            }
            shapes = {"question_keys": kept, "question_values": kept, "question_bias": (-1, 1, 1, -1)}
        past = torch.zeros((traits.layers, rows, traits.heads, before, traits.head_width))
        given = {
            "ids": ids, "positions": ids, "bias": torch.zeros((rows, 1, tokens, before + tokens)),
            "keys": past, "values": past, **looked_at,
        }  # fmt: skip
        shapes |= {"bias": (-1, 1, -1, -1), "keys": kept, "values": kept}
        _write(stepper(network, traits.task), given, shapes, folder / STEP, is_compressed)


def _write(
    function: Callable[..., Any],
    given: Mapping[str, torch.Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    path: Path,
    is_compressed: bool,
) -> None:
    """Trace `function` with `given`, and save it. -1 in `shapes` is any number; so is everything that has none."""
    import openvino as ov

    try:
        network = _traced(function, given)
        network.reshape({name: ov.PartialShape(list(shape)) for name, shape in shapes.items()})
        if is_compressed:
            compress(network)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # tracer and frontend raise whatever they like
        raise ConversionError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    save_network(network, path.parent, path.name)


def _traced(function: Callable[..., Any], given: Mapping[str, torch.Tensor]) -> openvino.Model:
    """With inputs named as in `given`."""
    import openvino as ov
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about shapes that are fixed and may be
        traced = torch.jit.trace(function, tuple(given.values()), check_trace=False)
        network = ov.convert_model(traced, example_input=tuple(given.values()))
    for name, port in zip(given, network.inputs, strict=True):
        port.get_tensor().set_names({name})
    return network


def compress(network: openvino.Model) -> None:
    """Make the weights of matrix products int8, with one scale for each output, symmetric around zero.

    OpenVINO's CPU runtime knows this shape of a graph, keeps the bytes, and makes activations int8 too where the
    processor is faster with those.
    """
    import numpy as np
    from openvino import opset13 as ops

    for node in network.get_ops():
        if node.get_type_name() != "MatMul":
            continue
        source = node.input(1).get_source_output()
        constant = source.get_node()
        if constant.get_type_name() != "Constant" or len(source.get_shape()) != 2:
            continue
        weights = constant.data
        reduced = 1 if node.get_attributes()["transpose_b"] else 0
        scales = np.maximum(np.abs(weights).max(reduced, keepdims=True), 1e-12) / 127
        rounded = ops.constant(np.round(weights / scales).astype(np.int8))
        widened = ops.multiply(ops.convert(rounded, "f32"), ops.constant(scales.astype(np.float32)))
        node.input(1).replace_source_output(widened.output(0))
