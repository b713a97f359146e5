"""The results as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from pvu.bootstrap import Estimate
from training.evaluation.protocol import UncertaintyReport
from training.evaluation.results import ModelReport, ordered_names
from training.evaluation.safe import PARTS

_COLUMNS: tuple[tuple[str, Callable[[UncertaintyReport], float]], ...] = (
    ("within labels", lambda found: found.r_auroc_within_labels),
    ("AURC", lambda found: found.aurc),
    ("classification", lambda found: found.classification_auroc),
    ("crop test", lambda found: found.crop_test),
    ("humans", lambda found: found.human_correlation),
    *(
        (f"safe R@1: {part}", lambda found, part=part: (found.safe_retrieval or {}).get(part, float("nan")))
        for part in PARTS
    ),
)


def markdown(models: Sequence[ModelReport]) -> str:
    """All tables: R-AUROC of each uncertainty, the rest of the protocol, mixtures, degradations, what is missing."""
    sections = [
        ("R-AUROC of each uncertainty", _overview(models)),
        ("Each uncertainty in full, R-AUROC with its 95 % bootstrap interval", _details(models)),
        ("u: mean, standard deviation, quantiles", _summaries(models)),
        ("Upstream and downstream images mixed", _mixtures(models)),
        ("Spearman correlation with the strength of degradations", _degradations(models)),
        ("Left out", _left_out(models)),
    ]
    return "\n\n".join(f"## {title}\n\n{body}" for title, body in sections if body) + "\n"


def _overview(models: Sequence[ModelReport]) -> str:
    names = ordered_names(models)
    rows = []
    for report in models:
        for name, found in report.sets.items():
            r_aurocs = [_value(found.uncertainties, key) for key in names]
            rows.append([report.model, name, found.images, found.labels, _estimate(found.recall_at_1), *r_aurocs])
        if len(report.sets) > 1:
            columns = [[_value(found.uncertainties, key) for found in report.sets.values()] for key in names]
            recall = float(np.mean([found.recall_at_1.value for found in report.sets.values()]))
            rows.append([report.model, "mean", "", "", recall, *(float(np.mean(column)) for column in columns)])
    return _table(["model", "set", "images", "labels", "R@1", *names], rows, models)


def _details(models: Sequence[ModelReport]) -> str:
    measured = [found for report in models for s in report.sets.values() for found in s.uncertainties.values()]
    columns = [(title, get) for title, get in _COLUMNS if any(np.isfinite(get(found)) for found in measured)]
    rows = [
        [report.model, set_name, name, _estimate(found.r_auroc), *(get(found) for _, get in columns)]
        for report in models
        for set_name, one in report.sets.items()
        for name, found in one.uncertainties.items()
    ]
    return _table(["model", "set", "uncertainty", "R-AUROC", *(title for title, _ in columns)], rows, models)


def _summaries(models: Sequence[ModelReport]) -> str:
    found = [
        (report.model, set_name, head, one.uncertainties[head].summary or {})
        for report in models
        for set_name, one in report.sets.items()
        for head in one.heads
    ]
    titles = list(found[0][3]) if found else []
    rows = [[*where, *(f"{summary[title]:.4g}" for title in titles)] for *where, summary in found]
    return _table(["model", "set", "uncertainty", *titles], rows, models)


def _mixtures(models: Sequence[ModelReport]) -> str:
    rows = [
        [report.model, name, found.images, found.recall_at_1, key, _estimate(ood), _estimate(found.mixed_r_auroc[key])]
        for report in models
        for name, found in report.mixtures.items()
        for key, ood in found.ood_auroc.items()
    ]
    titles = ["model", "upstream:downstream", "images of each", "R@1", "uncertainty", "OOD AUROC", "mixed R-AUROC"]
    return _table(titles, rows, models)


def _degradations(models: Sequence[ModelReport]) -> str:
    found = [
        (report.model, set_name, name, kinds)
        for report in models
        for set_name, scores in report.degradations.items()
        for name, kinds in scores.items()
    ]
    titles = list(found[0][3]) if found else []
    rows = [[*where, *(kinds[title] for title in titles)] for *where, kinds in found]
    return _table(["model", "set", "uncertainty", *titles], rows, models)


def _left_out(models: Sequence[ModelReport]) -> str:
    reasons: dict[str, list[str]] = {}
    for report in models:
        for name, found in report.sets.items():
            where = f"{report.model} on {name}" if len(models) > 1 else name
            for reason in found.left_out:
                reasons.setdefault(reason, []).append(where)
        for name, count in report.unreadable.items():
            reasons.setdefault(f"{count} images that cannot be read", []).append(name)
    return "\n".join(f"- {reason} ({', '.join(where)})" for reason, where in reasons.items())


def _value(uncertainties: dict[str, UncertaintyReport], name: str) -> float:
    return uncertainties[name].r_auroc.value if name in uncertainties else float("nan")


def _estimate(found: Estimate) -> str:
    if not np.isfinite(found.low):
        return _cell(found.value)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _table(titles: Sequence[str], rows: Iterable[Sequence[object]], models: Sequence[ModelReport]) -> str:
    """A table whose first column, the model, is left out where there is only one."""
    first = 0 if len(models) > 1 else 1
    lines = [list(titles), ["---"] * len(titles), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line[first:])} |" for line in lines) if len(lines) > 2 else ""


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if np.isfinite(value) else "-"
    return str(value).replace("|", "\\|")
