"""Documents for whoever learns from, calibrates by or measures on text: found, cleaned, split, encoded, sampled.

The way through: `settings` -> `sources` (kinds of file, `hub_dataset`) -> `corpus` (`cleaning`) -> `split` ->
`encoding` (with `tokenizer`, or a model's own) -> `token_set` (`tokens`) or `sample`.
"""
