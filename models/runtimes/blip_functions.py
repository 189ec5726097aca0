"""BLIP's networks as functions of tensors, put together from the library's layers. Run in PyTorch or traced for others.

    pixels ──see──▶ image ──(vqa) read a question──▶ its keys and values ──step──▶ scores of the next token, again
                      └─────(caption)────────────────────────────────────────▶       and again

Two things differ from the library's own `forward`, and neither changes what comes out beyond rounding:

- No keys and values of an image are computed. With W_k and W_v a head's weights and X the patches, q·(X W_k) is
  (q W_kᵀ)·X and p (X W_v) is (p X) W_v, and what W_k's bias adds is equal for all patches, so that softmax drops it.
  That takes a sixth of the multiplications for a question of ten tokens, a question in ten times as many patches
  being shorter than an image; and a step of the decoder reads an image once per layer and not twelve times as much.
- The decoder looks at a question through keys and values that were computed once, and heeds the question's padding
  (the library, 5.23, gives the mask a name under which its attention does not read it).

In a worker; torch is imported inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from models.normalisation import Normalisation
from models.runtimes.blip_runtime import HIDDEN

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def seer(network: Any, normalisation: Normalisation, device: torch.device) -> Callable[[Tensor], Tensor]:
    """uint8 of (images, height, width, 3) to float32 of (images, patches, width)."""
    import torch

    vision = network.vision_model
    mean, std = (
        torch.tensor(values, device=device).view(3, 1, 1) / normalisation.scale
        for values in (normalisation.mean, normalisation.std)
    )

    def see(pixels: Tensor) -> Tensor:
        states = vision.embeddings((pixels.permute(0, 3, 1, 2).float() - mean) / std)
        for layer in vision.encoder.layers:
            attention = layer.self_attn
            mixed = attention.qkv(layer.layer_norm1(states)).unflatten(-1, (3, attention.num_heads, -1))
            queries, keys, values = mixed.permute(2, 0, 3, 1, 4)
            seen = torch.nn.functional.scaled_dot_product_attention(queries, keys, values)
            states = states + attention.projection(seen.transpose(1, 2).flatten(2))
            states = states + layer.mlp(layer.layer_norm2(states))
        result: Tensor = vision.post_layernorm(states)
        return result

    return see


def reader(network: Any) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A question beside its image, to the keys and the values of the decoder's attention to it.

    Token numbers int64 of (rows, tokens), their mask float32 of the same shape (1 is a token, 0 padding) and images
    float32 of (images, patches, width), to twice float32 of (layers, rows, heads, tokens, width of a head). Each image
    is for as many consecutive rows: one for all, or one for each.
    """
    import torch

    encoder, decoder = network.text_encoder, network.text_decoder.bert

    def read(ids: Tensor, mask: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        bias = ((1.0 - mask) * HIDDEN)[:, None, None]
        table = encoder.embeddings
        states = table.word_embeddings(ids) + table.position_embeddings.weight[: ids.shape[1]]
        states = table.LayerNorm(states)
        for layer in encoder.encoder.layer:
            queries, keys, values = _own(layer.attention.self, states)
            states = _attended(layer.attention, states, queries, keys, values, bias)
            states = _look(layer.crossattention, states, images)
            states = layer.feed_forward_chunk(states)
        looks = [layer.crossattention.self for layer in decoder.encoder.layer]
        return (
            torch.stack([_heads(look, look.key(states)) for look in looks]),
            torch.stack([_heads(look, look.value(states)) for look in looks]),
        )

    return read


def stepper(network: Any, task: str) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """One step of the decoder: tokens, and what it kept of those before, to scores of the token that comes next.

    Token numbers int64 of (rows, tokens) and their positions likewise; bias float32 of (rows, 1, tokens, all tokens),
    0 or HIDDEN; keys and values of the tokens before, float32 of (layers, rows, heads, tokens, width of a head). Then
    what it looks at: vqa `read`'s keys and values and a bias of (questions, 1, 1, tokens), caption images. Gives
    float32 scores of (rows, words), keys and values of all tokens.
    """
    import torch

    decoder = network.text_decoder

    def step(
        ids: Tensor, positions: Tensor, bias: Tensor, keys: Tensor, values: Tensor, *looked_at: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        table = decoder.bert.embeddings
        states = table.LayerNorm(table.word_embeddings(ids) + table.position_embeddings(positions))
        kept_keys, kept_values = [], []
        for number, layer in enumerate(decoder.bert.encoder.layer):
            queries, its_keys, its_values = _own(layer.attention.self, states)
            its_keys = torch.cat([keys[number], its_keys], 2)
            its_values = torch.cat([values[number], its_values], 2)
            kept_keys.append(its_keys)
            kept_values.append(its_values)
            states = _attended(layer.attention, states, queries, its_keys, its_values, bias)
            if task == "vqa":
                question_keys, question_values, question_bias = looked_at
                states = _ask(
                    layer.crossattention,
                    states,
                    question_keys[number],
                    question_values[number],
                    question_bias,
                )
            else:
                states = _look(layer.crossattention, states, looked_at[0])
            states = layer.feed_forward_chunk(states)
        scores = decoder.cls(states[:, -1])
        return scores, torch.stack(kept_keys), torch.stack(kept_values)

    return step


def _heads(attention: Any, states: Tensor) -> Tensor:
    """(rows, tokens, width) to (rows, heads, tokens, width of a head)."""
    heads: Tensor = states.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)
    return heads


def _own(attention: Any, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a text's attention to itself."""
    queries, keys, values = (
        _heads(attention, each(states)) for each in (attention.query, attention.key, attention.value)
    )
    return queries, keys, values


def _attended(
    attention: Any, states: Tensor, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor
) -> Tensor:
    import torch

    found = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
    result: Tensor = attention.output(found.transpose(1, 2).flatten(2), states)
    return result


def _ask(attention: Any, states: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Attention of (rows, tokens, width) to questions, each for as many consecutive rows (its beams)."""
    rows, tokens, width = states.shape
    questions = keys.shape[0]
    queries = _heads(attention.self, attention.self.query(states).reshape(questions, -1, width))
    import torch

    found = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
    result: Tensor = attention.output(found.transpose(1, 2).reshape(rows, tokens, width), states)
    return result


def _look(attention: Any, states: Tensor, images: Tensor) -> Tensor:
    """Attention of (rows, tokens, width) to images of (images, patches, width), each for as many consecutive rows."""
    own = attention.self
    rows, tokens, width = states.shape
    num_heads, size = own.num_attention_heads, own.attention_head_size
    num_images, patch_width = images.shape[0], images.shape[2]
    queries = own.query(states).reshape(rows * tokens, num_heads, size).transpose(0, 1)
    queries = queries @ (own.key.weight * size**-0.5).reshape(num_heads, size, -1)
    # From heads first, where weights are, to images first, where the patches are.
    queries = queries.reshape(num_heads, num_images, -1, patch_width).transpose(0, 1)
    shares = queries.flatten(1, 2) @ images.transpose(1, 2)
    found = shares.softmax(-1) @ images
    found = found.reshape(num_images, num_heads, -1, patch_width).transpose(0, 1).flatten(1, 2)
    values = found @ own.value.weight.reshape(num_heads, size, -1).transpose(1, 2)
    values = values.transpose(0, 1).reshape(rows, tokens, width) + own.value.bias
    result: Tensor = attention.output(values, states)
    return result
