"""Flatpacks: signed packages of models, recipes, deltas, adapters and datasets (docs/flatpack.md).

What other rooms rest on:

- `pantry.flatpack.manifest`: `Manifest`, `Delta`, `read_manifest(path)`, `write_manifest(manifest, path)`.
- `pantry.flatpack.archive`: `pack(folder, out, level=1, progress=None)`, `Reader(path)` with `.manifest`, `.entries`,
  `.read(name)`, `.check()` and `.unbox(target, only=None, verified_by=None)`.
- `pantry.flatpack.signature`: `sign(fpk, keys, out=None)`, `judge(reader, trust)`, `verify(path_or_folder, trust)`;
  a `Verdict` has `ok`, `signer` and `sentence`.
- `pantry.flatpack.trust`: `load_trust(paths)`; `pantry.flatpack.keys`: key files and key identities.
"""
