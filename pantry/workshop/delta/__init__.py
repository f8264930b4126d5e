"""Weight differences: a fine-tune stored as what it changes in its base, rebuilt bit for bit (docs/deltas.md).

- `elements`: number formats; `codec`: one block of numbers against a prediction, as few bytes.
- `layout`: where the tensors lie in a file, with one reader per format (`_safetensors`, `_gguf`, `_torch`);
  `sources`: a base or target, one file or a folder.
- `plan`: how each tensor is stored; `adapter`, `predict`: what the prediction is made of (casts, LoRA).
- `payload`: the file that holds the blocks and their index; `make` writes a delta, `apply` rebuilds from one.
- `chain`: deltas on deltas; `inspect`: what a delta says of itself.
"""
