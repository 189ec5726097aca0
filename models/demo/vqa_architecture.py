"""The network of `shapes-vqa`: BLIP's question answering layout at a hundredth of its size, and its vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.demo.colours import COLOURS
from models.demo.questions import plural
from models.demo.shapes import SHAPES

INPUT_SIZE = 96
PATCH_SIZE = 12
GRID = INPUT_SIZE // PATCH_SIZE  # patches along one side
WIDTH = 128
NUM_VISION_LAYERS = 4
NUM_TEXT_LAYERS = 2  # in the encoder of the question, and again in the decoder of the answer

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_OTHER_WORDS = """
? , . a an and the is are there any how many what which where do does you can see have has count describe in of to on
it picture image shape object thing shapes objects things colour color number left right above below over under top
bottom middle yes no 0 1 2 3 4 5 6 7 8 9
"""

#: The order is part of the shipped weights: never sort it, only append.
WORDS: tuple[str, ...] = (
    *_SPECIAL,
    *_OTHER_WORDS.split(),
    *COLOURS,
    *SHAPES,
    *(plural(shape) for shape in SHAPES),
)


def make_tokenizer() -> Any:
    """A BertTokenizer that knows whole words only. What it does not know becomes [UNK]."""
    from transformers import BertTokenizer

    return BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)})


def make_network(patches: Any | None = None) -> Any:
    """A `BlipForQuestionAnswering` with random weights from torch's global seed.

    From a sample of `patches` (n, 3, size, size) float32 of normalised pictures the first layer starts as their
    principal components of equal strength: edges and colours are then apart before the first step.
    """
    import torch
    from transformers import BlipConfig, BlipForQuestionAnswering

    config = BlipConfig(
        vision_config={
            "hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, "num_hidden_layers": NUM_VISION_LAYERS,
            "num_attention_heads": 4, "image_size": INPUT_SIZE, "patch_size": PATCH_SIZE, "initializer_range": 0.04,
        },
        text_config={
            "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": NUM_TEXT_LAYERS,
            "num_attention_heads": 4,
            "encoder_hidden_size": WIDTH, "vocab_size": len(WORDS), "max_position_embeddings": 32,
            "bos_token_id": WORDS.index("[CLS]"), "sep_token_id": WORDS.index("[SEP]"),
            "eos_token_id": WORDS.index("[SEP]"),
            "pad_token_id": WORDS.index("[PAD]"), "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
            "label_smoothing": 0.0, "initializer_range": 0.04,
        },
    )  # fmt: skip
    network: Any = BlipForQuestionAnswering(config)
    positions = network.vision_model.embeddings.position_embedding
    with (
        torch.no_grad()
    ):  # learnt like any other weight, but it need not find out from nothing that rows are rows
        positions[0, 1:] = 0.5 * _waves()
        if patches is not None:
            network.vision_model.embeddings.patch_embedding.weight.copy_(_principal_components(patches))
    return network


def _principal_components(patches: Any) -> Any:
    """Whitening filters (width, 3, size, size) of patches (n, 3, size, size); weak components are not blown up."""
    import torch

    flat = patches.flatten(1)
    strengths, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))  # in ascending order
    scales = (strengths[-WIDTH:] + 1e-2 * strengths[-WIDTH:].mean()).rsqrt()
    return (vectors[:, -WIDTH:] * scales).T.reshape(WIDTH, *patches.shape[1:])


def _waves() -> Any:
    """Sines and cosines of each patch's row and column: float32 of (patches, width)."""
    import torch

    frequencies = torch.pi * 2.0 ** torch.linspace(-1, 2, WIDTH // 4)
    along = (torch.arange(GRID) + 0.5) / GRID
    waves = torch.cat([(along[:, None] * frequencies).sin(), (along[:, None] * frequencies).cos()], dim=1)
    rows, columns = waves[:, None].expand(-1, GRID, -1), waves[None].expand(GRID, -1, -1)
    return torch.cat([rows, columns], dim=-1).reshape(GRID * GRID, WIDTH)


def _pass_mask_on(module: Any, args: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    # In transformers 5.23 a cross-attention is given its mask under the name that it reads only for self-attention,
    # and so looks at everything.
    return args, {**keywords, "encoder_attention_mask": keywords["attention_mask"]}


def mask_cross_attention(network: Any) -> None:
    """Make the answer decoder heed the mask of what it looks at, which rows of packed questions rely on."""
    for layer in network.text_decoder.bert.encoder.layer:
        layer.crossattention.self.register_forward_pre_hook(_pass_mask_on, with_kwargs=True)


def save(network: Any, folder: Path) -> None:
    """Write the folder as on the hub, in half precision; it loads in single precision. `network` is left as it is.

    Raises OSError where the folder cannot be written.
    """
    import copy
    import json

    from transformers import BlipImageProcessor

    copy.deepcopy(network).cpu().half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    for part in (config, config["text_config"], config["vision_config"]):
        part["dtype"] = "float32"  # what to compute in; processors are slow in half precision
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    make_tokenizer().save_pretrained(folder)
    BlipImageProcessor(size={"height": INPUT_SIZE, "width": INPUT_SIZE}).save_pretrained(folder)
    (folder / "model.safetensors").chmod(
        0o644
    )  # the library keeps it to its owner; a server runs as somebody else
