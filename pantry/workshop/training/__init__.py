"""Trains small language models from text: recipe, data, tokenizer, model, loop, exports.

`recipe`, `shape`, `sources`, `cleaning`, `scrubbing` and `schedule` need no extra; the rest needs the extra `train`.
"""
