"""Trains small language models from text: data, tokenizer, model, loop, exports.

`extra` and `schedule` need no extra; the rest needs the extra `train`.
"""
