"""What a head that is fitted on a data set's own labels reaches there, and how long it takes.

    python -m benchmarks.fit /data/flowers17 /data/cub_dev /data/cifar10_dev --model efficientnet-lite0
    python -m benchmarks.fit --synthetic 50000 --dim 768

R-AUROC on images that the measured heads have not seen, in the same folds: the head of :mod:`pvu.fitting`; a linear
function of z in closed form (ridge regression on the ranks of the same task losses: RankRLS, Pahikkala et al. 2007), at
its best of three strengths; and what needs no fitting. The data sets were embedded before. --synthetic fits on made-up
embeddings of a size, for the time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import rankdata
from sklearn.linear_model import Ridge

from benchmarks.synthetic import synthetic_store
from pvu.bootstrap import auroc_estimates
from pvu.fitting import NAMES, FitConfig, Fitted, fit_head, usable_rows
from pvu.metrics import auroc, correct_at_1
from pvu.probe import CrossProbe, draw_folds
from pvu.progress import Progress
from pvu.store import EmbeddedDataset

MADE_UP = "synthetic"
STRENGTHS = (0.5, 5.0, 50.0)


def linear_r_auroc(dataset: EmbeddedDataset, config: FitConfig) -> tuple[float, float, float]:
    """R-AUROC of the closed form on unseen images, with its 95 % interval: of the strength that comes out best."""
    rows = usable_rows(dataset.labels)
    codes = np.unique(dataset.labels[rows].astype(str), return_inverse=True)[1]
    z = np.asarray(dataset.embeddings[rows], np.float32)
    spread = z.std(axis=0)
    z = (z - z.mean(axis=0)) / np.maximum(spread, 0.1 * spread.mean())
    folds = draw_folds(codes, config.folds, seed=config.seed)
    probe = CrossProbe(z, codes, folds)
    correct, labelled = correct_at_1(dataset.neighbors, dataset.labels)
    correct = correct[np.isin(labelled, rows)]
    u = {strength: np.empty(len(rows)) for strength in STRENGTHS}
    for fold in range(config.folds):
        inside, ranks = folds == fold, rankdata(probe.judge(without=fold).loss[folds != fold])
        for strength, values in u.items():
            model = Ridge(alpha=strength * (~inside).sum()).fit(z[~inside], ranks / len(ranks))
            values[inside] = rankdata(model.predict(z[inside])) / inside.sum()
    best = max(u.values(), key=lambda values: auroc(correct, -values))
    found = auroc_estimates(correct, {"linear": -best}, resamples=300)["linear"]
    return found.value, found.low, found.high


def timed(dataset: EmbeddedDataset, config: FitConfig) -> tuple[Fitted, dict[str, float]]:
    """Fit, and the seconds of each phase."""
    began: dict[str, float] = {}

    def note(progress: Progress) -> None:
        began.setdefault(progress.phase, time.monotonic())

    fitted = fit_head(dataset, config, progress=note)
    edges = [*began.values(), time.monotonic()]
    return fitted, dict(zip(began, np.diff(edges).tolist(), strict=True))


def rows_of(dataset: EmbeddedDataset, config: FitConfig) -> Iterator[str]:
    """The lines of one data set."""
    cpu = time.process_time()
    fitted, seconds = timed(dataset, config)
    cpu = time.process_time() - cpu
    steps = fitted.config.steps
    yield (
        f"{dataset.name}, {dataset.manifest['model']}: {fitted.images:,} images x {dataset.embeddings.shape[1]}, "
        f"{fitted.labels:,} labels, Recall@1 {fitted.recall_at_1:.3f}, {steps} steps"
    )
    phases = ", ".join(f"{phase} {spent:.1f}" for phase, spent in seconds.items())
    yield f"  {fitted.seconds:.1f} s on {os.cpu_count()} cores, {cpu:.1f} s of processor time ({phases})"
    for name, score in fitted.scores.items():
        yield f"  {NAMES[name]:46}{score.value:.3f}  {score.low:.3f} to {score.high:.3f}"
    if dataset.manifest["model"] == MADE_UP:
        return
    value, low, high = linear_r_auroc(dataset, config)
    yield f"  {'linear in closed form, best of three ridges':46}{value:.3f}  {low:.3f} to {high:.3f}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.fit", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datasets", nargs="*", help="folders that were embedded, or stores")
    parser.add_argument("--model", help="that they were embedded with; default: the newest run's")
    parser.add_argument("--synthetic", type=int, metavar="N", help="fit on so many made-up embeddings")
    parser.add_argument("--dim", type=int, default=768, help="of those")
    parser.add_argument("--seed", type=int, default=0, help="of the fit")
    arguments = parser.parse_args()
    config = FitConfig(seed=arguments.seed)
    for name in arguments.datasets:
        for line in rows_of(EmbeddedDataset.open(name, model=arguments.model), config):
            print(line, flush=True)
    if arguments.synthetic:
        with tempfile.TemporaryDirectory() as folder:
            store = synthetic_store(Path(folder), arguments.synthetic, dim=arguments.dim)
            for line in rows_of(EmbeddedDataset(store), config):
                print(line, flush=True)


if __name__ == "__main__":
    main()
