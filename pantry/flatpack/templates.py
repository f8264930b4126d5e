"""The files that `pantry init` starts a flatpack with. What stands in [brackets] is for the user to fill in."""

from __future__ import annotations

from typing import Literal

from pantry.flatpack.cards.dataset_card import render_card

Template = Literal["model", "recipe", "adapter", "dataset"]

_HEAD = """\
# What this flatpack is. Fill in what stands in [brackets]; `pantry pack` names what is left.
flatpack = 2
kind = "{kind}"
name = "{name}"
version = "0.1.0"
summary = "[one sentence: what it is and what it is for]"
authors = ["[name <address>, like Ada Lovelace <ada@example.org>]"]

[licence]            # SPDX expressions, or ids of `pantry licence list`
{licences}
"""

_LICENCES = {
    "model": (
        'data = "[licence of the training data, like CC-BY-4.0]"\nweights = "[licence of the weights, like Apache-2.0]"'
    ),
    "recipe": 'code = "[licence of the scripts, like Apache-2.0]"\ndata = "[licence of the data, like CC-BY-4.0]"',
    "adapter": (
        'data = "[licence of the training data, like CC-BY-4.0]"\nweights = "[licence of the adapter, like Apache-2.0]"'
    ),
    "dataset": 'data = "[licence of the data, like CC-BY-4.0]"',
}

_UNKNOWN = """
# [provenance]         # if the weights are not yours: in place of DATASET.md and of `data` above
# data_unknown = "why nothing is told of the data"
"""

_TABLES = {
    "model": """
[model]
family = "[family, like llama]"
# architecture = "llama"
# parameters = 10_900_000
# context = 512          # tokens
# tags = ["english"]
# chat_template = "chat_template.jinja"
"""
    + _UNKNOWN,
    "recipe": """
[recipe]
run = "train.sh"
data = ["data"]

# [recipe.settings]    # `pantry train . --dry-run` prints every setting
""",
    "adapter": """
[adapter]
base = "[name of the model it belongs to]"
# rank = 16
"""
    + _UNKNOWN,
    "dataset": "",
}

_PLACES = {
    "model": "Put the weights (GGUF or safetensors) and the tokenizer beside this file.",
    "recipe": "Put the text into `data/`, as .txt, .jsonl or .parquet files; `pantry train .` trains with it.",
    "adapter": "Put the adapter's files (`adapter_config.json`, `adapter_model.safetensors`) beside this file.",
    "dataset": "Put the data into `data/`.",
}

_README = """\
# {name}

{place}

Then:

    pantry pack . -o ../{short}.fpk
    pantry sign ../{short}.fpk --key NAME
"""

_TRAIN = """\
#!/bin/sh
# Trains with the data and settings of this folder.
set -eu
cd "$(dirname "$0")"
exec pantry train . "$@"
"""


def template_files(kind: Template, name: str) -> dict[str, str]:
    """The files by path. `name` is the flatpack's name, or a field in brackets."""
    short = "flatpack" if name.startswith("[") else name.rpartition("/")[2]
    head = _HEAD.format(kind=kind, name=name, licences=_LICENCES[kind])
    files = {
        "flatpack.toml": head + _TABLES[kind],
        "DATASET.md": render_card(),
        "README.md": _README.format(name=short, short=short, place=_PLACES[kind]),
    }
    if kind == "recipe":
        files["train.sh"] = _TRAIN
    return files


def template_folders(kind: Template) -> list[str]:
    """Empty folders that the template begins with."""
    return ["data"] if kind in ("recipe", "dataset") else []
