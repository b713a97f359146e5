"""The configuration of the bundled Vision Transformer's training, read from one YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from training.config import CacheConfig, read_config

LOSSES = ("cosine", "relation", "retrieval", "label", "logits")


@dataclass(frozen=True)
class Shape:
    """The transformer.

    Args:
        width: of the tokens and of the representation. 384, as ViT-S: 320 principal components of the trunk's 1,280
            would already cost Recall@1.
        depth: number of blocks. Four take half the trunk's time an image; six took the whole above 1.6 times of it.
        heads: of the attention, 64 channels each as in every ViT.
        init_values: of LayerScale: how much each block adds at the start. Small, so that training starts near the
            trunk's own representation, which is good already.
    """

    width: int = 384
    depth: int = 4
    heads: int = 6
    init_values: float = 0.1

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads) < 1 or self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, and all above zero; got {self}.")


@dataclass(frozen=True)
class DistillConfig:
    """How the Vision Transformer is made. The losses are those of :mod:`training.hybrid.teacher`.

    Args:
        cache: which pictures and views its trunk's maps are kept of.
        shape: the transformer.
        steps: batches.
        batch: views a batch, at most: a picture that is drawn twice counts once.
        neighbours: how many of a picture's nearest neighbours come with it, so that a batch holds what is hard to tell.
        among: they are drawn from so many nearest ones.
        augmented: share of the pictures that are shown as one of their augmented views.
        smallest: views that show less of the picture's area than this are left out: no model could tell what they are.
        whole: weight of the whole picture in a view's target; the rest is the view's own.
        drop_tokens: share of the tokens that are left out in training: twice the speed, and a regulariser.
        all_tokens: share of the steps, the last ones, that see all tokens, as use does.
        whiten: power of the eigenvalues that the teacher's components are divided by. Of 0, 0.25 and 0.5, 0.25 had the
            best Recall@1.
        temperature: of the relation and retrieval losses. 0.05, as in the cache's task losses.
        lr: peak of the learning rate; cosine to zero.
        warmup: share of the steps with a linear warm-up.
        weight_decay: of matrices.
        ema: decay a step of the average of the weights, which is what ships.
        cosine: weight of the loss of this name, as are relation, retrieval, label and logits.
        relation: see cosine.
        retrieval: see cosine.
        label: see cosine.
        logits: see cosine.
        seed: of initialisation and of the draws.
        checkpoint_every: steps: what a kill can lose.
    """

    cache: CacheConfig
    shape: Shape = field(default_factory=Shape)
    steps: int = 900
    batch: int = 256
    neighbours: int = 7
    among: int = 20
    augmented: float = 0.5
    smallest: float = 0.2
    whole: float = 0.5
    drop_tokens: float = 0.5
    all_tokens: float = 0.1
    whiten: float = 0.25
    temperature: float = 0.05
    lr: float = 8e-4
    warmup: float = 0.05
    weight_decay: float = 0.05
    ema: float = 0.995
    cosine: float = 1.0
    relation: float = 2.0
    retrieval: float = 0.5
    label: float = 0.3
    logits: float = 0.3
    seed: int = 1
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        if self.steps < 1 or self.checkpoint_every < 1 or self.temperature <= 0 or self.lr <= 0:
            raise ValueError(f"steps, checkpoint_every, temperature and lr must be above zero; got {self}.")
        if not 1 <= self.neighbours <= self.among or self.batch < self.neighbours + 1:
            raise ValueError(
                f"Need 1 <= neighbours <= among, and a larger batch; got neighbours={self.neighbours}, "
                f"among={self.among}, batch={self.batch}."
            )
        shares = ("augmented", "smallest", "whole", "all_tokens", "warmup")
        if not all(0 <= getattr(self, name) <= 1 for name in shares) or not (0 <= self.drop_tokens < 1 > self.ema >= 0):
            raise ValueError(f"{', '.join(shares)}, drop_tokens and ema are shares of one; got {self}.")
        if min(getattr(self, name) for name in LOSSES) < 0:
            raise ValueError(f"Weights of losses must not be negative; got {self}.")


def load_distill_config(path: Path) -> DistillConfig:
    """Read a configuration.

    Raises:
        ValueError: naming the key, if one is unknown or missing, or a value is out of its range.
    """
    example, holds = "training/configs/hybrid_vit.yaml", "cache, shape and the rest of DistillConfig"
    return read_config(DistillConfig, path, see=example, holds=holds)
