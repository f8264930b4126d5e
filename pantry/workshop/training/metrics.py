"""`metrics.jsonl`: one line a note, kept in step with the checkpoints; and the curve as a picture."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pantry.core.files import storage_errors, write_atomically
from pantry.workshop.training.board import TensorBoardWriter

SIZE = (960, 540)
_MARGIN = (80, 40, 30, 60)  # left, top, right, bottom
_TRAIN, _HELD_OUT, _INK, _GRID = "#7a9cc6", "#c0392b", "#222222", "#dddddd"

Series = list[tuple[float, float]]


class Metrics:
    """Notes of a training, in a file and for TensorBoard. After a resume, what was noted beyond the checkpoint is taken
    back. Without a path nothing is written."""

    def __init__(self, path: Path | None, *, after_step: int, board: TensorBoardWriter | None = None) -> None:
        self.path, self.board = path, board
        if path is not None:
            kept = [note for note in read_metrics(path) if note["step"] <= after_step] if after_step else []
            write_atomically(path, "".join(json.dumps(note) + "\n" for note in kept).encode())

    def add(self, **note: Any) -> None:
        """Append one note. Raises StorageError."""
        if self.path is not None:
            with storage_errors(f"Writing {self.path.name}"), self.path.open("a") as file:
                file.write(json.dumps(note) + "\n")
        if self.board is not None:
            self.board.add(note)


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The notes of a file; a last line cut short by a crash is passed over."""
    if not path.exists():
        return
    with storage_errors(f"Reading {path.name}"), path.open() as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


def draw_losses(notes: list[dict[str, Any]], path: Path) -> None:
    """Write a PNG with the training loss and the held-out loss (nats per token) over the tokens seen."""
    from PIL import Image, ImageDraw

    train = [(note["tokens"], note["loss"]) for note in notes if "loss" in note]
    held_out = [(note["tokens"], note["held_out"]) for note in notes if "held_out" in note]
    image = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(image)
    box = _Box([*train, *held_out])
    for value in box.rungs():
        y = box.place(0, value)[1]
        draw.line([(_MARGIN[0], y), (SIZE[0] - _MARGIN[2], y)], fill=_GRID)
        draw.text((_MARGIN[0] - 8, y), f"{value:.2f}", fill=_INK, anchor="rm", font_size=14)
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = box.place(box.right * share, 0)[0]
        draw.text(
            (x, SIZE[1] - _MARGIN[3] + 10), f"{box.right * share / 1e6:.2f}", fill=_INK, anchor="mt", font_size=14
        )
    draw.text((SIZE[0] / 2, SIZE[1] - 12), "million tokens", fill=_INK, anchor="mb", font_size=14)
    draw.text((_MARGIN[0], 12), "loss, nats per token:", fill=_INK, font_size=14)
    for at, (name, colour, series) in enumerate((("training", _TRAIN, train), ("held out", _HELD_OUT, held_out))):
        draw.text((_MARGIN[0] + 150 + 90 * at, 12), name, fill=colour, font_size=14)
        if len(series) > 1:
            draw.line([box.place(*point) for point in series], fill=colour, width=2, joint="curve")
        for point in series if name == "held out" else ():
            x, y = box.place(*point)
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour)
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    write_atomically(path, content.getvalue())


class _Box:
    """From tokens and losses to places in the picture."""

    def __init__(self, points: Series) -> None:
        values = [value for _, value in points if math.isfinite(value)] or [0.0, 1.0]
        self.right = max((tokens for tokens, _ in points), default=1) or 1
        self.low, self.high = min(values), max(values)
        if self.high - self.low < 0.01:
            self.high = self.low + 0.01

    def place(self, tokens: float, value: float) -> tuple[float, float]:
        left, top, right, bottom = _MARGIN
        x = left + (SIZE[0] - left - right) * tokens / self.right
        y = SIZE[1] - bottom - (SIZE[1] - top - bottom) * (value - self.low) / (self.high - self.low)
        return x, y

    def rungs(self) -> list[float]:
        return [self.low + (self.high - self.low) * share / 5 for share in range(6)]
