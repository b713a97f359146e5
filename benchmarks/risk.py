"""What the risk model adds to the uncertainty and to the similarity alone, and whether its guarantee holds.

    python -m benchmarks.risk photos/ more/photos/ --splits 200

DATASET is a folder of labelled images that was embedded, or a store. Every number is of the half of the queries that
neither fit nor proof has seen, the mean over the splits. "Above alpha" counts splits where the error among the kept was
above alpha: on that half, whose own noise is in it, and over all queries, which the guarantee is about.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

from pvu.calibration import DELTA, MonotoneRisk, reliability
from pvu.errors import PVUError
from pvu.metrics import correct_at_1
from pvu.risk import ALPHAS, proved_rule, risk_inputs, why_no_risk
from pvu.store import EmbeddedDataset

MODELS = {"u alone": [0], "similarity alone": [1], "u, similarity": [0, 1], "the model": [0, 1, 2]}
"""Columns of ``risk_inputs``; all have the same form and the same fit."""


def measure(inputs: np.ndarray, wrong: np.ndarray, splits: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Means over the splits.

    Returns:
        For each model, and the percentile of u taken for a probability: AUROC, Brier score, log loss, ECE; and for each
        model (alphas, 4): share kept, share of splits without a threshold, above alpha on the half, and over all.
    """
    quality, guarantee = defaultdict(list), defaultdict(list)
    for seed in range(splits):
        order = np.random.default_rng(1000 + seed).permutation(len(wrong))
        own, held = np.split(order, [len(order) // 2])
        rank = np.searchsorted(np.sort(inputs[own, 0]), inputs[held, 0], "right") / len(own)
        quality["percentile of u"].append(_quality(rank, wrong[held]))
        for name, columns in MODELS.items():
            used = inputs[:, columns]
            said = MonotoneRisk.fit(used[own], wrong[own]).predict(used[held])
            quality[name].append(_quality(said, wrong[held]))
            rule, proved = proved_rule(used[own], wrong[own], seed=seed)
            scores = rule.predict(used)
            rows = []
            for alpha, found in proved.items():
                kept = scores <= (-np.inf if found is None else found.threshold)
                above = [_error(wrong[held][kept[held]]) > alpha, _error(wrong[kept]) > alpha]
                rows.append([kept[held].mean(), found is None, *above])
            guarantee[name].append(rows)
    return tuple({name: np.mean(rows, axis=0) for name, rows in part.items()} for part in (quality, guarantee))  # type: ignore[return-value]


def _quality(said: np.ndarray, wrong: np.ndarray) -> list[float]:
    found = reliability(said, wrong)
    loss = log_loss(wrong, np.clip(said, 1e-6, 1 - 1e-6), labels=[False, True])
    return [roc_auc_score(wrong, said), found.brier, loss, found.ece]


def _error(wrong: np.ndarray) -> float:
    return float(wrong.mean()) if len(wrong) else 0.0


def show(name: str, queries: int, wrong: float, quality: dict[str, np.ndarray], proved: dict[str, np.ndarray]) -> None:
    """Print the two tables of one data set."""
    print(f"\n{name}: {queries:,} queries, {100 * wrong:.1f} % with a wrong nearest image")
    print(f"  {'':18}   AUROC    Brier log loss      ECE")
    for model, means in quality.items():
        print(f"  {model:18}" + "".join(f"{mean:9.4f}" for mean in means))
    print(f"  {'':18}   alpha   kept   no threshold   above alpha: held-out half   all")
    for model, rows in proved.items():
        for alpha, (kept, none, held, everywhere) in zip(ALPHAS, rows, strict=True):
            numbers = f"{100 * kept:5.1f} % {100 * none:10.1f} % {100 * held:22.1f} % {100 * everywhere:9.1f} %"
            print(f"  {model:18}{alpha:8.2f} {numbers}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.risk", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="a folder that was embedded, or a store")
    parser.add_argument("--splits", type=int, default=200)
    arguments = parser.parse_args()
    print(f"{arguments.splits} random halves; delta {DELTA}: at most {100 * DELTA:g} % of them may be above alpha")
    for path in arguments.datasets:
        try:
            dataset = EmbeddedDataset.open(path)
        except PVUError as error:
            parser.error(str(error))
        reason = why_no_risk(dataset)
        if reason is not None:
            parser.error(reason)
        correct, rows = correct_at_1(dataset.neighbors, dataset.labels)
        tables = measure(risk_inputs(dataset, rows), ~correct, arguments.splits)
        show(dataset.name, len(rows), float((~correct).mean()), *tables)


if __name__ == "__main__":
    main()
