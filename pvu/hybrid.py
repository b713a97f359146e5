"""The bundled Vision Transformer: a hybrid whose tokens are the feature maps of a frozen EfficientNet-Lite0.

"An Image is Worth 16x16 Words" (arXiv 2010.11929), section 3.1, "Hybrid Architecture": the patches of a ViT may be
taken from the feature map of a convolutional network. The transformer is timm's own VisionTransformer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from timm.layers import HybridEmbed, trunc_normal_
from timm.models.efficientnet import EfficientNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F

from pvu.errors import CheckpointError

MIDDLE = 4  # index of the stage at stride 16 whose map has 112 channels
MIDDLE_CHANNELS, FINAL_CHANNELS = 112 * 4, 1280
TRUNK_PREFIX = "patch_embed.backbone."
FORMAT = "pvu.hybrid-vit/1"
STAGES = (16, 24, 40, 80, 112, 192, 320)  # channels of the trunk's seven stages
STATISTICS = 2 * sum(STAGES)  # numbers that stage_statistics gives
GRID = 7  # places a side at 224 pixels
CLASSES = 1000  # ImageNet-1k


class Trunk(nn.Module):
    """The feature maps of an EfficientNet-Lite0 that become tokens.

    Args:
        network: an EfficientNet-Lite0, with its weights.
    """

    num_features = MIDDLE_CHANNELS + FINAL_CHANNELS

    def __init__(self, network: EfficientNet) -> None:
        super().__init__()
        self.network = network

    def stages(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """The maps of the seven stages for normalised inputs (B, 3, H, W), one after the other."""
        x = self.network.bn1(self.network.conv_stem(x))
        for stage in self.network.blocks:
            x = stage(x)
            yield x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised inputs (B, 3, 224, 224) -> (B, 1728, 7, 7), see :meth:`join`."""
        maps = list(self.stages(x))
        return self.join(maps[MIDDLE], maps[-1])

    def join(self, middle: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """One map from those of two stages.

        Args:
            middle: (B, 112, 14, 14), of the fifth stage; the 2 x 2 places over one of the last stage stand in channels.
            last: (B, 320, 7, 7), of the seventh stage, which the trunk's last convolution takes to 1,280 channels.

        Returns:
            (B, 448 + 1280, 7, 7) of the finer of their types.
        """
        final = self.final(last)
        return torch.cat([F.pixel_unshuffle(middle, 2).to(final.dtype), final], dim=1)

    def final(self, last: torch.Tensor) -> torch.Tensor:
        """The map (B, 1280, 7, 7) that the trunk's own representation is the mean of, from (B, 320, 7, 7)."""
        return self.network.bn2(self.network.conv_head(last))


def has_stages(backbone: nn.Module) -> bool:
    """Whether a backbone has EfficientNet-Lite0's stages, or stands on it: :func:`stage_statistics` can be had then."""
    if isinstance(backbone, HybridViT):
        return True
    if not isinstance(backbone, EfficientNet):
        return False
    convolutions = ([m.out_channels for m in stage.modules() if isinstance(m, nn.Conv2d)] for stage in backbone.blocks)
    return tuple(channels[-1] if channels else 0 for channels in convolutions) == STAGES


def stage_statistics(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean and standard deviation over the places of each stage's map: what blur and noise change and pooling forgets.

    Args:
        maps: of the seven stages, (B, C, H, W) with C of ``STAGES``.

    Returns:
        (B, STATISTICS) float32: means then standard deviations of the first stage's channels, of the second's, ...
    """
    parts = []
    for each in maps:
        # Places before channels, as they lie in memory in channels_last. torch.std takes five times as long on a CPU.
        places = each.permute(0, 2, 3, 1).flatten(1, 2).float()
        mean = places.mean(1)
        variance = (places - mean[:, None]).square().sum(1) / (places.shape[1] - 1)
        parts += [mean, variance.sqrt()]
    return torch.cat(parts, dim=1)


def pooled_input(pooled: torch.Tensor) -> torch.Tensor:
    """The trunk's representation (B, 1280) as square roots, L2-normalised: few channels no longer drown the rest."""
    return F.normalize(pooled.clamp_min(0).sqrt(), dim=1)


class TrunkEmbed(HybridEmbed):  # type: ignore[misc]  # timm is untyped
    """timm's HybridEmbed, with one token more in front: the trunk's pooled feature, where the class token starts."""

    def __init__(self, backbone: Trunk, embed_dim: int, **options: object) -> None:
        options |= {"feature_size": GRID, "feature_ratio": 32}  # named, so that timm need not run the trunk to see it
        super().__init__(backbone=backbone, embed_dim=embed_dim, **options)
        self.pooled = nn.Linear(FINAL_CHANNELS, embed_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, 224, 224) -> (B, 1 + 49, W)."""
        return self.tokens(self.backbone(x))

    def tokens(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, 1728, 7, 7) of :meth:`Trunk.forward` -> (B, 1 + 49, W)."""
        start = self.pooled(pooled_input(maps[:, MIDDLE_CHANNELS:].mean((2, 3))))
        return torch.cat([start[:, None], self.proj(maps).flatten(2).transpose(1, 2)], dim=1)


class HybridViT(VisionTransformer):  # type: ignore[misc]
    """A Vision Transformer over the maps of a frozen trunk. Its class token starts at the trunk's pooled feature.

    Args:
        network: the trunk, an EfficientNet-Lite0 with its weights.
        width: W, of the tokens and of the representation.
        depth: number of transformer blocks.
        heads: of the attention.
        mlp_ratio: width of each block's MLP over W.
        options: of timm's VisionTransformer, for training.
    """

    def __init__(
        self, network: EfficientNet, *, width: int, depth: int, heads: int, mlp_ratio: float = 4.0, **options: object
    ) -> None:
        super().__init__(
            img_size=GRID * 32,
            patch_size=1,
            num_classes=CLASSES,
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            mlp_ratio=mlp_ratio,
            embed_layer=partial(TrunkEmbed, backbone=Trunk(network)),
            weight_init="skip",  # timm's would start the trunk's classifier anew as well
            **options,
        )
        own = (self.patch_embed.pooled, self.blocks, self.head)
        for layer in (layer for part in own for layer in part.modules() if isinstance(layer, nn.Linear)):
            trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        trunc_normal_(self.pos_embed, std=0.02)
        nn.init.zeros_(self.cls_token)

    def from_maps(self, maps: torch.Tensor) -> torch.Tensor:
        """The representation (B, W) from the trunk's maps (B, 1728, 7, 7): ``forward_features`` from there."""
        tokens = self.norm_pre(self.patch_drop(self._pos_embed(self.patch_embed.tokens(maps))))
        z: torch.Tensor = self.forward_head(self.norm(self.blocks(tokens)), pre_logits=True)
        return z

    def _pos_embed(self, x: torch.Tensor) -> torch.Tensor:
        start, patches = x[:, :1], x[:, 1:]
        tokens = super()._pos_embed(patches)
        return torch.cat([tokens[:, :1] + start, tokens[:, 1:]], dim=1)


def own_state(model: HybridViT) -> dict[str, torch.Tensor]:
    """The weights of all but the trunk, which comes from its own package."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith(TRUNK_PREFIX)}


def load_own_state(model: HybridViT, tensors: dict[str, torch.Tensor]) -> None:
    """The inverse of :func:`own_state`.

    Raises:
        CheckpointError: if a tensor is missing, or there is one too many.
    """
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    wrong = unexpected + [name for name in missing if not name.startswith(TRUNK_PREFIX)]
    if wrong:
        raise CheckpointError(f"These are not the weights of this hybrid ViT: {', '.join(wrong[:3])} do not match.")
