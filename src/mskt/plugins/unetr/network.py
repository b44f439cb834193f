"""UNETR: a vision transformer reads a box of voxels, convolutions draw its outlines.

Hatamizadeh et al. 2022 (WACV), as used by Kim 2024. Transformer blocks are those of timm. The hidden
states of four depths are brought up to the resolutions of a U-Net's skip connections by
deconvolutions; residual blocks of convolutions with instance normalisation decode them.

"Blocks 3, 6, 9 and 12" are read as MONAI reads them, whose network Kim 2024 trained: counted from 0,
with the last one's output normalised; what leaves is the output of the 4th, 7th, 10th and 12th block.
:func:`from_monai` maps weights of MONAI's ``UNETR``, which gives the same outputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, cat, nn
from torch.nn import functional

from mskt.core.dropout import McDropout
from mskt.core.errors import WeightsError
from mskt.networks.blocks3d import EPSILON, InstanceNorm
from mskt.networks.patch_variant import PatchVariant

PATCH = 16
"""Voxels of a token along each axis: four doublings, one for each skip connection."""
SLOPE = 0.01
"""Of the leaky ReLU."""


@dataclass(frozen=True, kw_only=True)
class UnetrVariant(PatchVariant):
    """A size of the network; the defaults are the paper's.

    Attributes:
        embedding: numbers of a token.
        depth: transformer blocks, a multiple of 4, at least 8: features leave at each quarter.
        heads: of the attention.
        mlp: hidden numbers of a block's perceptron.
        features: channels at full resolution; doubled at each coarser one.
    """

    embedding: int = 768
    depth: int = 12
    heads: int = 12
    mlp: int = 3072
    features: int = 16


class UNETR(nn.Module):
    """The network.

    Args:
        variant: its size; each side of the window is a multiple of 16.
        classes: output channels, background included.

    Input ``(N, 1, *window)`` from 0 to 1; output logits ``(N, classes, *window)``.
    """

    def __init__(self, variant: UnetrVariant, classes: int) -> None:
        super().__init__()
        width, features = variant.embedding, variant.features
        self._grid = tuple(side // PATCH for side in variant.window)
        self.tokens = nn.Conv3d(1, width, PATCH, stride=PATCH)
        self.position = nn.Parameter(torch.empty(1, prod(self._grid), width))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.dropout = McDropout(variant.dropout)
        self.blocks = nn.ModuleList(_transformer(variant) for _ in range(variant.depth))
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.skip = Residual(1, features)
        self.lift = nn.ModuleList(
            Lift(width, features * 2**level, doublings=4 - level) for level in (1, 2, 3)
        )
        ups = [(width, 8), (features * 8, 4), (features * 4, 2), (features * 2, 1)]
        self.decoder = nn.ModuleList(Up(below, features * times) for below, times in ups)
        self.head = nn.Conv3d(features, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the batch."""
        hidden = self._tokens(x) + self.position
        hidden = self.dropout(hidden)
        states = []
        quarter = len(self.blocks) // 4
        for number, block in enumerate(self.blocks):
            hidden = block(hidden)
            if number and number % quarter == 0:
                states.append(hidden)
        y = self._as_image(self.norm(hidden))
        skips = [self.skip(x)]
        for lift, state in zip(self.lift, states, strict=True):
            skips.append(lift(self._as_image(state)))
        for up in self.decoder:
            y = up(y, skips.pop())
        logits: Tensor = self.head(y)
        return logits

    def _tokens(self, x: Tensor) -> Tensor:
        """``(N, tokens, embedding)``: the convolution without overlap as one matrix product.

        The same but for rounding; torch is slow at the gradient of so large a kernel.
        """
        cut = [part for side in self._grid for part in (side, PATCH)]
        boxes = x.reshape(len(x), *cut).permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)
        return functional.linear(boxes, self.tokens.weight.flatten(1), self.tokens.bias)

    def _as_image(self, tokens: Tensor) -> Tensor:
        """``(N, tokens, embedding)`` to ``(N, embedding, *grid of tokens)``."""
        return tokens.transpose(1, 2).reshape(len(tokens), -1, *self._grid)


def _transformer(variant: UnetrVariant) -> nn.Module:
    """A block of timm with our dropout, behind the attention and twice in the perceptron."""
    from timm.models.vision_transformer import Block

    block = Block(
        variant.embedding,
        variant.heads,
        mlp_ratio=variant.mlp / variant.embedding,
        norm_layer=nn.LayerNorm,
    )
    block.attn.proj_drop = McDropout(variant.dropout)
    block.mlp.drop1 = McDropout(variant.dropout)
    block.mlp.drop2 = McDropout(variant.dropout)
    return block


class Residual(nn.Module):
    """Two 3×3×3 convolutions with instance normalisation beside a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
        self.second = nn.Conv3d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Sequential(nn.Conv3d(inputs, outputs, 1, bias=False), InstanceNorm())
            if inputs != outputs
            else nn.Identity()
        )
        self.normed = InstanceNorm()

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, *space)`` to ``(N, outputs, *space)``."""
        y = functional.leaky_relu(self.normed(self.first(x)), SLOPE, inplace=True)
        y = self.normed(self.second(y)) + self.shortcut(x)
        return functional.leaky_relu(y, SLOPE, inplace=True)


def _doubled(inputs: int, outputs: int) -> nn.ConvTranspose3d:
    """Twice the resolution."""
    return nn.ConvTranspose3d(inputs, outputs, 2, stride=2, bias=False)


class Lift(nn.Module):
    """Brings a hidden state to the resolution of a skip connection.

    Args:
        inputs: channels of the state.
        outputs: of the skip connection.
        doublings: of the resolution; each after the first is followed by a residual block.
    """

    def __init__(self, inputs: int, outputs: int, doublings: int) -> None:
        super().__init__()
        self.first = _doubled(inputs, outputs)
        self.more = nn.ModuleList(
            nn.Sequential(_doubled(outputs, outputs), Residual(outputs, outputs))
            for _ in range(doublings - 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The features at ``2 ** doublings`` times the resolution."""
        x = self.first(x)
        for stage in self.more:
            x = stage(x)
        return x


class Up(nn.Module):
    """Doubles the resolution and joins the skip connection."""

    def __init__(self, below: int, outputs: int) -> None:
        super().__init__()
        self.up = _doubled(below, outputs)
        self.block = Residual(2 * outputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """``(N, below, *space)`` and the skip at twice the resolution."""
        joined: Tensor = self.block(cat([self.up(x), skip], dim=1))
        return joined


_NAMES = (
    (r"vit\.patch_embedding\.patch_embeddings(\.1)?\.", "tokens."),
    (r"vit\.patch_embedding\.position_embeddings", "position"),
    (r"vit\.norm\.", "norm."),
    (r"vit\.blocks\.(\d+)\.mlp\.linear(\d)\.", r"blocks.\1.mlp.fc\2."),
    (r"vit\.blocks\.(\d+)\.attn\.out_proj\.", r"blocks.\1.attn.proj."),
    (r"vit\.blocks\.(\d+)\.", r"blocks.\1."),
    (r"encoder1\.layer\.", "skip."),
    *((rf"encoder{n + 2}\.transp_conv_init\.", f"lift.{n}.first.") for n in range(3)),
    *((rf"encoder{n + 2}\.blocks\.", f"lift.{n}.more.") for n in range(3)),
    *((rf"decoder{5 - n}\.transp_conv\.", f"decoder.{n}.up.") for n in range(4)),
    *((rf"decoder{5 - n}\.conv_block\.", f"decoder.{n}.block.") for n in range(4)),
    (r"out\.conv\.conv\.", "head."),
)
_PARTS = (("conv1.conv.", "first."), ("conv2.conv.", "second."), ("conv3.conv.", "shortcut.0."))
_UNUSED = re.compile(r"vit\.blocks\.\d+\.(norm_)?cross_attn\.")
"""MONAI keeps parameters of a cross-attention that UNETR never uses."""


def from_monai(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of MONAI's ``UNETR`` under the names of :class:`UNETR`.

    Both ways in which MONAI cuts the image into tokens are known, ``conv`` and ``perceptron`` (that
    of its published weights). Blocks must be residual and the normalisation ``instance``, MONAI's
    defaults, without affine parameters or bias of the attention.

    Args:
        state: ``state_dict()`` of ``monai.networks.nets.UNETR``.

    Returns:
        For ``load_state_dict`` of a :class:`UNETR` of the same size.

    Raises:
        WeightsError: a name that no such network has.

    Example:
        >>> network = UNETR(UnetrVariant(), classes=14)
        >>> network.load_state_dict(from_monai(monai_network.state_dict()))
    """
    out = {}
    for name, value in state.items():
        if _UNUSED.match(name):
            continue
        ours = _renamed(name)
        if ours == "tokens.weight" and value.ndim == 2:  # a perceptron over voxels (x, y, z)
            value = value.view(-1, 1, PATCH, PATCH, PATCH)
        out[ours] = value
    return out


def _renamed(name: str) -> str:
    for pattern, ours in _NAMES:
        changed, hits = re.subn(f"^{pattern}", ours, name)
        if hits:
            for theirs, part in _PARTS:
                changed = changed.replace(theirs, part)
            return changed.replace(".conv.weight", ".weight")
    raise WeightsError(
        "weights of MONAI",
        f"have {name!r}, which its UNETR does not have",
        "Give the state_dict() of monai.networks.nets.UNETR, without a prefix such as 'module.'.",
    )
