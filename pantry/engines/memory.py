"""How much memory a worker will need for a model, estimated from its files before it is started."""

from __future__ import annotations

from pantry.engines.adapter import LoadOptions, ModelFiles, WorkerNeed
from pantry.formats.kinds import format_called
from pantry.formats.memory import Need, estimate


def need_by_header(model: ModelFiles, options: LoadOptions) -> WorkerNeed:
    """The estimate by the format's header, with projector and adapters. Raises BadFileError when it cannot be read."""
    architecture, _ = format_called(model.format).architecture(model.parts)
    need = estimate(architecture, options.context, parallel=options.parallel)
    beside = sum(file.stat().st_size for file in (*model.of_role("projector"), *model.of_role("adapter")))
    return WorkerNeed(need.with_more_weights(beside), min(options.prompt_cache, need.cache))


def need_by_size(model: ModelFiles, options: LoadOptions) -> WorkerNeed:
    """The size of the files and nothing beside, for engines that read no weights."""
    return WorkerNeed(Need(weights=sum(part.place.stat().st_size for part in model.parts), cache=0, compute=0), 0)
