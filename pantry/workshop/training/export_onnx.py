"""Writes a trained model as ONNX: `input_ids` (batch, length) to `logits` (batch, length, vocab), both free in size."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch

from pantry.core.errors import MissingExtraError
from pantry.core.files import write_atomically
from pantry.workshop.training.model import Llama


def onnx_is_there() -> bool:
    """Whether the parts that the export needs are installed."""
    return find_spec("onnx") is not None and find_spec("onnxscript") is not None


def export_onnx(model: Llama, path: Path) -> None:
    """Write `path` in one step, weights inside. Raises MissingExtraError without the extra, StorageError."""
    if not onnx_is_there():
        raise MissingExtraError("The export to ONNX", "onnx")
    ids = torch.zeros((2, min(8, model.shape.context)), dtype=torch.int64)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=model.shape.context)}
    on_cpu = Llama(model.shape)
    on_cpu.load_state_dict(model.state_dict())
    with _quietly():
        program = torch.onnx.export(
            on_cpu.eval(), (ids,), dynamo=True, input_names=["input_ids"], output_names=["logits"],
            dynamic_shapes=(sizes,), verbose=False,
        )  # fmt: skip
    if program is None:
        raise RuntimeError("torch exported nothing")
    write_atomically(path, program.model_proto.SerializeToString())


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter warns of image libraries that are not there."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
