"""A tiny BLIP with random weights and a small vocabulary, saved in the real file formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

IMAGE_SIZE = 48
MAX_TOKENS = 24
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    *(
        "what",
        "is",
        "in",
        "the",
        "picture",
        "?",
        "how",
        "many",
        "cats",
        "are",
        "there",
        "a",
        "an",
        "red",
        "blue",
    ),
    *("green", "big", "small", "dog", "cat", "car", "on", "under", "left", "right", "of", "and", "or", "two"),
    *(
        "three",
        "four",
        "none",
        "yes",
        "no",
        "man",
        "woman",
        "bus",
        "street",
        "colour",
        "##s",
        "##ing",
        "##ed",
    ),
    *(",", ".", "!"),
]


def save_blip(folder: Path, architecture: str = "BlipForQuestionAnswering", **text: Any) -> Path:
    """Write everything that a folder from the hub has. `text` changes the text configuration."""
    import torch
    import transformers
    from transformers import BertTokenizer, BlipConfig, BlipImageProcessor, BlipProcessor

    vocabulary = {word: index for index, word in enumerate(SPECIAL + WORDS)}
    tokenizer = BertTokenizer(vocab=vocabulary)
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    BlipProcessor(BlipImageProcessor(size=size), tokenizer).save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BlipConfig(
        vision_config={**sizes, "image_size": IMAGE_SIZE, "patch_size": 16},
        text_config={
            **sizes,
            "encoder_hidden_size": 32,
            "vocab_size": len(vocabulary) + 2,
            "max_position_embeddings": MAX_TOKENS,
            "bos_token_id": len(vocabulary),  # beyond the tokenizer's vocabulary, as in the released weights
            "pad_token_id": vocabulary["[PAD]"],
            "sep_token_id": vocabulary["[SEP]"],
            **text,
        },
    )
    network = getattr(transformers, architecture)(config).eval()
    torch.manual_seed(
        2
    )  # chosen so that answers differ, some end early, and the best token is clearly the best
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=3.0 if "position" in name else 0.5)
        words = network.text_decoder.cls.predictions.bias
        words[: len(SPECIAL)] = words[len(vocabulary) :] = -100.0
        words[vocabulary["[SEP]"]] = 5.0  # ends an answer
    network.save_pretrained(folder)
    return folder
