"""The sizes of a Llama decoder, and what follows from them by arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

ROPE_BASE = 10000.0
NORM_EPS = 1e-5


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; `heads` divide `width`, `kv_heads` divide `heads`, and a head has an even width."""

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    context: int
    tied: bool = True
    qk_norm: bool = False

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def parameters(self) -> int:
        """Weights of the whole network; a tied embedding counts once."""
        kv_width = self.kv_heads * self.head_width
        attention = 2 * self.width * self.width + 2 * self.width * kv_width
        norms = 2 * self.width + (2 * self.head_width if self.qk_norm else 0)
        block = attention + 3 * self.width * self.hidden + norms
        embeddings = self.vocab * self.width * (1 if self.tied else 2)
        return embeddings + self.layers * block + self.width

    @property
    def matrices(self) -> int:
        """Weights in the matrices of the blocks, which Muon trains."""
        kv_width = self.kv_heads * self.head_width
        return self.layers * (2 * self.width * (self.width + kv_width) + 3 * self.width * self.hidden)

    @property
    def flops_per_token(self) -> int:
        """Floating-point operations to train on one token (Chowdhery et al. 2022, appendix B): 6 N + 12 L W T."""
        matrices = self.matrices + self.vocab * self.width
        return 6 * matrices + 12 * self.layers * self.width * self.context
