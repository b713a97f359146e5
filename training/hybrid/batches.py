"""Which views are in a batch: pictures with some of their nearest neighbours, each whole or as one of its views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pvu.neighbors import nearest_neighbors
from training.hybrid.config import DistillConfig
from training.hybrid.mapped import MappedViews
from training.hybrid.teacher import Teacher, as_tensor


@dataclass(frozen=True)
class Pictures:
    """The pictures that are trained on.

    Args:
        whole: (P,) int64, the row of each one's whole view.
        views: (P,) arrays of int64, the rows of its augmented views that show enough of it.
        neighbors: (P, among) int, its nearest other pictures by the teacher.
        chances: (P,) float, how likely each is drawn.
        targets: (P, 1280) float32, the teacher's vectors of the whole pictures.
    """

    whole: np.ndarray
    views: list[np.ndarray]
    neighbors: np.ndarray
    chances: np.ndarray
    targets: torch.Tensor

    @classmethod
    def of(cls, views: MappedViews, teacher: Teacher, config: DistillConfig) -> Pictures:
        """Gather them.

        Raises:
            ValueError: if there are too few for a batch.
        """
        whole = np.flatnonzero(views.usable & (views.pass_index == 0))
        if len(whole) <= config.among or len(whole) < config.batch // (config.neighbours + 1):
            raise ValueError(f"Found {len(whole)} pictures to train on, expected more than a batch and its neighbours.")
        augmented = np.flatnonzero(views.usable & (views.pass_index > 0) & (views.area >= config.smallest))
        augmented = augmented[np.argsort(views.image[augmented], kind="stable")]
        first, last = (np.searchsorted(views.image[augmented], views.image[whole], side) for side in ("left", "right"))
        targets = teacher(as_tensor(views.pooled[whole]))
        neighbors, _ = nearest_neighbors(targets.numpy(), config.among)
        weights = np.array([source.weight for source in config.cache.sources])[views.source[whole]]
        return cls(
            whole,
            [augmented[start:stop] for start, stop in zip(first, last, strict=True)],
            neighbors,
            weights / weights.sum(),
            targets,
        )

    def draw(self, config: DistillConfig, step: int) -> tuple[np.ndarray, np.ndarray]:
        """One batch, which depends on seed and step alone.

        Returns:
            rows: (B,) int64, of views; B is the batch size less the pictures that were drawn twice.
            pictures: (B,) int64, which picture each is of.
        """
        rng = np.random.default_rng([config.seed, step])
        groups = config.batch // (config.neighbours + 1)
        seeds = rng.choice(len(self.whole), groups, replace=False, p=self.chances)
        columns = np.argsort(rng.random((groups, config.among)), axis=1)[:, : config.neighbours]
        near = np.take_along_axis(self.neighbors[seeds], columns, axis=1)
        pictures = np.unique(np.concatenate([seeds, near.ravel()]))
        rows = self.whole[pictures].copy()
        for index in np.flatnonzero(rng.random(len(pictures)) < config.augmented):
            choices = self.views[pictures[index]]
            if len(choices):
                rows[index] = rng.choice(choices)
        return rows, pictures
