"""Weight differences: a fine-tune stored as what it changes in its base, rebuilt bit for bit (docs/deltas.md).

Number formats and the readers of tensor files are in `pantry/formats/` (`dtypes`, `layout`, `tensor_files`).

- `codec`: one block of numbers against a prediction, as few bytes; `sources`: a base or target, one file or a folder.
- `plan`: how each tensor is stored; `predict`: what it is predicted from (the base, a cast, a LoRA); `adapter`: a
  LoRA's matrices as published; `lowrank`: finds them where they were not; `stretch`: bytes that are not tensors.
- `payload`: the file that holds the blocks and their index; `folder`: payload and manifest together; `make` writes a
  delta, `match` recognises its base, `apply` rebuilds from it.
- `chain`: deltas on deltas; `inspect`: what a delta says of itself; `room`: temporary folders.
"""
