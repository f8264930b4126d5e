"""The model card, written from measured values only."""

from __future__ import annotations

from typing import Any

HEADER = """\
# Pantry Starter

A very small language model, made from scratch by this project so that the first answer needs no download.
It speaks simple English. Weights and text are CC0-1.0: no rights reserved.

This card is written by `examples/starter/evaluate.py` from measured values; nothing in it is typed by hand
except what the model cannot do.
"""

LIMITS = """\
## What it cannot do

- It knows only what its text says: the question families below, short stories, and Pantry. Outside them it should
  say that it does not know, and sometimes says something wrong instead.
- It does not keep apart who has what, who went where, or what is in which box, in a scene of two or three people
  (who_has, where_is, who_went above): there it does little better than guessing among those named.
- A question about Pantry, or small talk, in words that its text does not have may get the answer to another question.
- It writes no program code, translates nothing, and does no sums beyond 20.
- It reads 512 tokens (about 350 words) and forgets what came before.
- It speaks English only, in short sentences, and names outside its text are copied badly.
- Its stories follow a few plots. It does not reason, and nothing it says should be relied on.
- It was not made to be safe against misuse; it has no text that could harm, and so little to misuse.
"""


def card(m: dict[str, Any]) -> str:
    """The card as Markdown; `m` is what `evaluate.measure` returns."""
    parts = (HEADER, _sizes(m), _training(m), _losses(m), _families(m), _samples(m), LIMITS, _rebuild())
    return "\n".join(parts)


def _sizes(m: dict[str, Any]) -> str:
    s = m["shape"]
    heads = f"{s.heads} heads ({s.kv_heads} key-value)"
    return f"""\
## Sizes

| | |
|---|---|
| parameters | {m["parameters"]:,} |
| network | Llama: {s.layers} layers, width {s.width}, {heads}, hidden {s.hidden}, tied embeddings |
| vocabulary | {s.vocab:,} tokens, byte-level BPE |
| context | {s.context} tokens |
| file | `starter.gguf`, Q8_0, {m["gguf_bytes"]:,} bytes |
| SHA-256 | `{m["gguf_sha256"]}` |
"""


def _training(m: dict[str, Any]) -> str:
    text, state = m["text"], m["state"]
    epochs, rate = state["tokens"] / text["tokens"], state["tokens"] / state["minutes"] / 60
    threads = "1 CPU thread" if state["threads"] == 1 else f"{state['threads']} CPU threads"
    return f"""\
## Data and training

Text: {text["bytes"] / 1e6:.1f} MB written by `examples/starter/generate.py` with seed 1,
{text["documents"]:,} documents, {text["tokens"]:,} tokens.
{text["answer_tokens"]:,} of them are the model's own words. No text from elsewhere was used.
SHA-256 of the text: `{text["sha256"]}`.
{_earlier(m)}
Training: {state["minutes"]:.0f} minutes, {state["steps"]:,} steps, {state["tokens"] / 1e6:.1f} M tokens
({epochs:.1f} times the text), {rate:,.0f} tokens a second, Muon and AdamW in bfloat16.
{m["note"] or f"All of it on {threads}."}
"""


def _earlier(m: dict[str, Any]) -> str:
    """What to say when training began on an earlier version of the text."""
    others = [f"`{digest}`" for digest in m["state"]["texts"] if digest != m["text"]["sha256"]]
    if not others:
        return ""
    return (
        "Training began on an earlier version of the text, from the same grammar with other weights and wordings:\n"
        f"{', '.join(others)}. What is held out is in neither.\n"
    )


def _losses(m: dict[str, Any]) -> str:
    rows = [("this model (the Q8_0 file)", m["loss"])]
    rows += [(f"Kneser-Ney {order}-gram, same text and tokens", value) for order, value in m["baselines"].items()]
    lines = "\n".join(
        f"| {name} | {v.answers:.3f} | {v.answer_bits_per_byte:.3f} | {v.everything:.3f} |" for name, v in rows
    )
    return f"""\
## Held-out loss

On {m["questions"]:,} questions whose combination of facts is nowhere in the training text.

| | answers, nats a token | answers, bits a byte | questions and answers, nats a token |
|---|---|---|---|
{lines}
"""


def _families(m: dict[str, Any]) -> str:
    families, warm, ended, recall = m["families"], m["warm"], m["ended"], m["recall"]
    right, asked = sum(s.right for s in families.values()), sum(s.asked for s in families.values())
    seen = ", ".join(f"{name} {s.right} of {s.asked}" for name, s in m["seen"].items())
    if seen:
        seen = f"Not part of these figures, because the wording is in the text with another greeting: {seen}.\n"
    again = sum(s.right for s in warm.values())
    lines = "\n".join(
        f"| {name} | {s.asked} | {s.combinations} | {s.share:.0%} | {warm[name].share:.0%} |"
        for name, s in sorted(families.items(), key=lambda item: -item[1].share)
    )
    return f"""\
## Right answers on held-out questions

Asked through llama.cpp with the shipped file. About 6 % of the combinations of each family are kept out of its
training text: pairs to compare, scenes, lists, sentences; for what is learned by heart (a capital, an opposite, a
sum) the pair of fact and wording: the fact itself is in the text, asked in other words.
No question below, greetings, capitals and end marks apart, is in the training text. Right means the whole answer,
word for word; for stories, sentences and lists, where many answers are right, a rule (`examples/starter/scoring.py`):
what was asked for is in it, one pronoun for the hero, whole to the last full stop. A right answer must also end by
itself.

**{right / asked:.1%}** of {asked:,} at temperature 0, {again / asked:.1%} at {m["temperature"]}, the file's own
default.
{ended.share:.1%} ended their turn by themselves.
In conversations, {recall.right} of {recall.asked} questions about what was said a turn before were answered right.

| family | questions | combinations | temperature 0 | temperature {m["temperature"]} |
|---|---|---|---|---|
{lines}

{seen}"""


def _samples(m: dict[str, Any]) -> str:
    shown = "\n".join(
        f"**{question}**\n\n> {reply.text.replace(chr(10), chr(10) + '> ')}\n" for question, reply in m["samples"]
    )
    return f"""\
## Ten samples, unedited

The file's own temperature ({m["temperature"]}), seed {m["seed"]}, first try of each.

{shown}"""


def _rebuild() -> str:
    return """\
## Rebuild

`pip install "pantry-llm[train]"`, then `python -m examples.starter` in a checkout: about an hour on two CPU cores.
"""
