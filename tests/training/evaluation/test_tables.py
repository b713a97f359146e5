from __future__ import annotations

import numpy as np
from reports import report, some

from training.evaluation.tables import markdown


def rows_of(table: str, title: str) -> list[list[str]]:
    section = table.split(f"## {title}")[1].split("## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]


def test_tables_show_the_numbers_in_their_columns() -> None:
    one, other = some(), some({"u": np.random.default_rng(5).random(80)})
    table = markdown([report("m", birds=one, cars=other)])
    titles, rule, birds, cars, mean = rows_of(table, "R-AUROC of each")
    assert set(rule) == {"---"}
    assert birds[:3] == ["birds", "80", "4"]
    assert birds[3].startswith(f"{one.recall_at_1.value:.3f} [")
    for row, found in ((birds, one), (cars, other)):
        for name in ("u", "random", "entropy", "-similarity", "u and -similarity"):
            assert row[titles.index(name)] == f"{found.uncertainties[name].r_auroc.value:.3f}"
    u = [found.uncertainties["u"].r_auroc.value for found in (one, other)]
    assert mean[0] == "mean"
    assert mean[titles.index("u")] == f"{np.mean(u):.3f}"
    details = rows_of(table, "Each uncertainty in full")
    assert "classification" not in details[0]  # nothing was measured
    assert details[2][:2] == ["birds", "u"]
    within = details[2][details[0].index("within labels")]
    assert within == f"{one.uncertainties['u'].r_auroc_within_labels:.3f}"
    assert "- crop test: no crops were encoded (birds, cars)" in table


def test_several_models_share_a_table() -> None:
    table = markdown([report("m", birds=some()), report("n", birds=some(classifier=False))])
    titles, _, m, n = rows_of(table, "R-AUROC of each")
    assert (titles[0], m[0], n[0]) == ("model", "m", "n")
    assert n[titles.index("entropy")] == "-"
    assert m[titles.index("entropy")] != "-"
    assert "the model has no classifier (n on birds)" in table
