"""The network in PyTorch: a Llama decoder (RMSNorm, RoPE, grouped-query attention, SwiGLU; Touvron et al. 2023).

Rotary positions use the split-half order of the Hugging Face code; `export_gguf` turns the rows for llama.cpp. With
`qk_norm`, queries and keys are normalised by head as in Qwen3, and the exports are of that architecture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pantry.workshop.shape import NORM_EPS, ROPE_BASE, Shape

INITIAL_SPREAD = 0.02


def rope_tables(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each (context, head width), of the rotary position embedding (Su et al. 2021)."""
    steps = torch.arange(0, shape.head_width, 2).float() / shape.head_width
    angles = torch.outer(torch.arange(shape.context).float(), ROPE_BASE**-steps)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos.to(x.dtype) + torch.cat((-second, first), dim=-1) * sin.to(x.dtype)


class Attention(nn.Module):
    """Causal attention; `kv_heads` keys and values are shared by groups of heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv_width = shape.kv_heads * shape.head_width
        self.q = nn.Linear(shape.width, shape.width, bias=False)
        self.k = nn.Linear(shape.width, kv_width, bias=False)
        self.v = nn.Linear(shape.width, kv_width, bias=False)
        self.o = nn.Linear(shape.width, shape.width, bias=False)
        self.q_norm = nn.RMSNorm(shape.head_width, eps=NORM_EPS) if shape.qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(shape.head_width, eps=NORM_EPS) if shape.qk_norm else nn.Identity()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        shape = self.shape
        q = self.q_norm(self.q(x).view(batch, length, shape.heads, shape.head_width)).transpose(1, 2)
        k = self.k_norm(self.k(x).view(batch, length, shape.kv_heads, shape.head_width)).transpose(1, 2)
        v = self.v(x).view(batch, length, shape.kv_heads, shape.head_width).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if shape.heads != shape.kv_heads:
            repeat = shape.heads // shape.kv_heads
            k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mixed: Tensor = self.o(y.transpose(1, 2).reshape(batch, length, width))
        return mixed


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return out


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.width, eps=NORM_EPS)
        self.attention = Attention(shape)
        self.ffn_norm = nn.RMSNorm(shape.width, eps=NORM_EPS)
        self.ffn = FeedForward(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin)
        out: Tensor = x + self.ffn(self.ffn_norm(x))
        return out


class Llama(nn.Module):
    """Token ids (batch, length) to logits (batch, length, vocab); `length` up to the context."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=NORM_EPS)
        self.output = None if shape.tied else nn.Linear(shape.width, shape.vocab, bias=False)
        cos, sin = rope_tables(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                last = name.endswith(("o.weight", "down.weight"))
                nn.init.normal_(parameter, std=INITIAL_SPREAD / (2 * shape.layers) ** 0.5 if last else INITIAL_SPREAD)

    def hidden_states(self, ids: Tensor) -> Tensor:
        """The last normalised states, (batch, length, width), from which the output layer makes logits."""
        x = self.embedding(ids)
        length = ids.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        for block in self.blocks:
            x = block(x, cos, sin)
        states: Tensor = self.norm(x)
        return states

    def forward(self, ids: Tensor) -> Tensor:
        weight = self.embedding.weight if self.output is None else self.output.weight
        return F.linear(self.hidden_states(ids), weight)


def build_model(shape: Shape, seed: int) -> Llama:
    """A new network; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Llama(shape)
