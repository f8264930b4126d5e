"""Rebuilds the blocks of a piece from the base and the payload."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pantry.core.errors import BadFileError
from pantry.formats.dtypes import CASTABLE, element_of, to_float32
from pantry.workshop.delta.codec import decode
from pantry.workshop.delta.match import MatchedBase
from pantry.workshop.delta.payload import BaseBytes, BaseTensor, Block, Payload, Piece, StoredFactors
from pantry.workshop.delta.predict import FromBase, LowRank, Prediction
from pantry.workshop.delta.sources import Located, SourceFile
from pantry.workshop.delta.stretch import unpack

_NOTHING = Block(length=0, crc=0)


@dataclass(frozen=True)
class Decoder:
    """Decodes pieces of one delta over one base."""

    base: MatchedBase
    payload: Payload

    def blocks(self, piece: Piece, at: int) -> Iterator[partial[bytes]]:
        """The work of each block of a piece that begins at `at` in the payload, in order; each gives its bytes."""
        if piece.name is None:
            work = partial(self._stretch, piece)
        else:
            prediction, at = self._prediction(piece, at)
            work = partial(self._tensor, piece, prediction)
        for number, start in enumerate(range(0, piece.length, piece.block_size)):
            block = piece.blocks[number] if piece.blocks else _NOTHING
            yield partial(work, at, block, start, min(piece.block_size, piece.length - start))
            at += block.length

    def _tensor(
        self, piece: Piece, prediction: Prediction | None, at: int, block: Block, start: int, size: int
    ) -> bytes:
        element = element_of(piece.dtype)
        count = size // element.width
        predicted = prediction.words(start // element.width, count) if prediction else None
        return decode(self._coded(at, block), predicted, element, count).tobytes()

    def _stretch(self, piece: Piece, at: int, block: Block, start: int, size: int) -> bytes:
        base = piece.base if isinstance(piece.base, BaseBytes) else None
        return unpack(self._coded(at, block), start, size, base, self._base_file(base))

    def _coded(self, at: int, block: Block) -> bytes:
        return self.payload.read(at, block) if block.length else b""

    def _base_file(self, base: BaseBytes | None) -> SourceFile | None:
        if base is None:
            return None
        file = self.base.files.get(base.file)
        if file is None or base.start + base.length > file.layout.size:
            raise BadFileError(f"This delta asks for bytes of {base.file!r} that its base does not list.")
        return file

    def _prediction(self, piece: Piece, at: int) -> tuple[Prediction | None, int]:
        """What the piece is predicted from, and where its blocks begin: after its factors."""
        if not isinstance(piece.base, BaseTensor):
            return None, at
        located = self._located(piece, piece.base)
        stored, wanted = element_of(piece.base.dtype), element_of(piece.dtype)
        if piece.factors is None:
            return FromBase(located, stored, wanted), at
        up, down, at = self._factors(piece.factors, at)
        return LowRank(located, stored, wanted, up, down, piece.factors.scale, piece.factors.merge), at

    def _located(self, piece: Piece, base: BaseTensor) -> Located:
        located = self.base.source.tensors.get(base.tensor)
        if located is None or located.tensor.dtype != base.dtype:
            raise BadFileError(f"This delta asks for the tensor {base.tensor!r} ({base.dtype}), which the base lacks.")
        if base.dtype != piece.dtype and not {base.dtype, piece.dtype} <= CASTABLE:
            raise BadFileError(f"This delta casts {base.tensor!r} from {base.dtype} to {piece.dtype}.")
        have = located.tensor.length // element_of(base.dtype).width
        if piece.length // element_of(piece.dtype).width > have:
            raise BadFileError(f"This delta asks for more elements of {base.tensor!r} than the base has.")
        return located

    def _factors(self, stored: StoredFactors, at: int) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
        element = element_of(stored.dtype)
        matrices = []
        for block, shape in zip(
            stored.blocks, ((stored.rows, stored.rank), (stored.rank, stored.columns)), strict=True
        ):
            words = decode(self._coded(at, block), None, element, shape[0] * shape[1])
            matrices.append(to_float32(words, element).reshape(shape))
            at += block.length
        return matrices[0], matrices[1], at
