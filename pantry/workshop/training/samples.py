"""Short pieces that a trained model writes, by seed."""

from __future__ import annotations

import torch

from pantry.workshop.data.tokenizer import END_OF_TEXT_ID, TURN_END_ID, TURN_START_ID
from pantry.workshop.training.model import Llama
from pantry.workshop.training.prepare import Prepared

COUNT = 3
TOKENS = 80
TEMPERATURE = 0.8


def write_samples(model: Llama, data: Prepared, seed: int) -> list[str]:
    """`COUNT` texts; of a model for conversations, answers to held-out prompts with the prompt before them."""
    dice = torch.Generator().manual_seed(seed)
    prompts = _questions(data) if data.chat else []
    written = []
    for number in range(COUNT):
        prompt = prompts[number % len(prompts)] if prompts else [END_OF_TEXT_ID]
        prompt = prompt[-(model.shape.context // 2) :]
        ids = _sample(model, prompt, dice)
        written.append(data.tokenizer.decode(ids[1:] if ids[0] == END_OF_TEXT_ID else ids, skip_special_tokens=False))
    return written


@torch.no_grad()
def _sample(model: Llama, prompt: list[int], dice: torch.Generator) -> list[int]:
    device = model.embedding.weight.device
    ids = list(prompt)
    for _ in range(TOKENS):
        window = torch.tensor([ids[-model.shape.context :]], device=device)
        chances = (model(window)[0, -1].float().cpu() / TEMPERATURE).softmax(-1)
        chosen = int(torch.multinomial(chances, 1, generator=dice))
        if chosen in (END_OF_TEXT_ID, TURN_END_ID):
            break
        ids.append(chosen)
    return ids


def _questions(data: Prepared) -> list[list[int]]:
    """The beginnings of held-out conversations, up to where the first answer begins."""
    found: list[list[int]] = []
    if data.validation.own is None:
        return found
    ids, own = data.validation.ids.tolist(), data.validation.own.tolist()
    starts = [at for at, token in enumerate(ids) if token == END_OF_TEXT_ID]
    for start in starts[: 4 * COUNT]:
        end = next((at for at in range(start, len(ids)) if own[at]), None)
        if end is not None and TURN_START_ID in ids[start:end]:
            found.append(ids[start:end])
    return found
