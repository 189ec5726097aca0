"""What each runtime and precision costs in answers, on scenes that no weights were trained on.

    python -m bench.accuracy_vqa                            # writes models/accuracy.json, which `auto` reads
    python -m bench.accuracy_vqa --only "openvino int8"     # one row anew

The model is `shapes-vqa`, the scenes are those of its card, the questions of the same kinds, captions left out. An
answer counts if it is right letter by letter. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from bench.accuracy import described
from bench.coarse import emulate
from models.accuracy import Accuracy, points_lost, write
from models.blip_network import BlipNetwork, open_network
from models.search import Search
from models.weights import PACKAGE, ResolvedWeights, sha256_of
from models.writers import Answerer

MODEL = "shapes-vqa"
METRIC = "answers exactly right"
NUM_SCENES = 600
BATCH = 32
MAX_NEW_TOKENS = 24
FOLDER = PACKAGE / "demo" / MODEL


def opened(runtime: str, precision: str) -> BlipNetwork:
    """The networks as a worker has them. Raises RuntimeUnavailableError."""
    weights = ResolvedWeights(FOLDER, sha256_of(FOLDER / "model.safetensors"))
    asked = {"runtime": runtime, "precision": precision}
    return open_network(asked, weights, "cpu", lambda step: None)


def emulated() -> BlipNetwork:
    """PyTorch with imitated bfloat16."""
    from models.blip_checkpoint import read_blip
    from models.runtimes.blip_torch import TorchBlip

    checkpoint = read_blip(FOLDER)
    emulate(checkpoint.network, "bfloat16")
    return BlipNetwork(TorchBlip(checkpoint, "cpu"), checkpoint.traits, checkpoint.tokens)


def cases() -> Mapping[str, Callable[[], tuple[BlipNetwork, bool]]]:
    """Each pair's networks, and whether they are emulated, by the pair's name."""
    from models.runtimes.wish import capabilities

    has_bf16 = "BF16" in capabilities()
    return {
        "torch fp32": lambda: (opened("torch", "fp32"), False),
        "openvino fp32": lambda: (opened("openvino", "fp32"), False),
        "openvino bf16": lambda: (opened("openvino", "bf16") if has_bf16 else emulated(), not has_bf16),
        "openvino int8": lambda: (opened("openvino", "int8"), False),
    }


def share_right(network: BlipNetwork, pictures: Any, asked: Any) -> float:
    """Of all `asked`, one list of questions for each of `pictures`."""
    seen = [
        image
        for first in range(0, len(asked), BATCH)
        for image in network.runtime.see(list(pictures.pixels[first : first + BATCH]))
    ]
    rows = [
        (image, each)
        for image, its in zip(seen, asked, strict=True)
        for each in its
        if each.kind != "caption"
    ]
    writer, search = Answerer(network.runtime, network.tokens, network.traits), Search(MAX_NEW_TOKENS, 1)
    right: list[bool] = []
    while part := rows[len(right) : len(right) + BATCH]:
        texts = writer.write([image for image, _ in part], [each.text for _, each in part], search)
        right += [text.strip() == each.answer for text, (_, each) in zip(texts, part, strict=True)]
    return float(np.mean(right))


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", help='rows, as "openvino fp32"')
    parser.add_argument("--scenes", type=int, default=NUM_SCENES)
    options = parser.parse_args()
    from models.demo.vqa_dataset import TEST_SEEDS, draw_pictures
    from models.demo.vqa_measure import ask_about

    pictures = draw_pictures(TEST_SEEDS, options.scenes)
    asked = ask_about(pictures, TEST_SEEDS)
    rows = []
    for name, make in cases().items():
        if options.only and name not in options.only:
            continue
        network, is_emulated = make()
        runtime, precision = name.split()
        score = round(share_right(network, pictures, asked), 5)
        rows.append(Accuracy(MODEL, runtime, precision, METRIC, score, len(asked), is_emulated=is_emulated))
        print(f"{name}: {score:.5f}", flush=True)
    write(described(), rows)
    losses = {" ".join(row.place[1:]).strip(): points_lost(row, rows) for row in rows}
    print(json.dumps({"bench": "accuracy_vqa", "rows": [asdict(row) for row in rows], "points_lost": losses}))


if __name__ == "__main__":
    main()
