"""Flatpacks: signed packages of models, recipes, deltas, adapters and datasets (docs/flatpack.md).

- `archive/`: the file format, read and written: `pack(folder, out)`, and `Reader(path)` with `.manifest`, `.entries`,
  `.read(name)`, `.check()` and `.unbox(target)`.
- `signing/`: `sign(fpk, keys)` and `verify(path_or_folder, trust)`, whose `Verdict` has `ok`, `signer` and `sentence`;
  key files, the keyring, and `load_trust(paths)`.
- `cards/`: dataset cards in their three forms. `legacy/`: packages of version 1, read and written.
- Beside them what all of these use: `manifest` (`read_manifest`, `write_manifest`), `names`, `folder`, `statement` (the
  signed list of files), `licence`, `templates`, `placeholders`, `check`, `outputs`.
"""
