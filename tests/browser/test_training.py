"""A head, from the button to the evaluation page, with the job in its own process."""

from __future__ import annotations

from pathlib import Path

import pytest

from pvu.analysis import evaluate
from pvu.own_heads import candidate_of, scores_of
from pvu.registry import own_head_path
from pvu.store import EmbeddedDataset
from tests.browser.conftest import Server, Tab, link, stores
from tests.headless import embed_pets, write_weights


@pytest.fixture
def headless(server: Server, monkeypatch: pytest.MonkeyPatch, quick_map: None) -> EmbeddedDataset:
    """A labelled data set of a backbone without a head, in the app's PVU_HOME."""
    monkeypatch.setenv("PVU_HOME", str(server.home))
    return embed_pets(server.root / "train", write_weights(server.root / "w.safetensors"))


def test_a_head_is_fitted_seen_downloaded_and_used(
    tab: Tab, server: Server, headless: EmbeddedDataset, tmp_path: Path
) -> None:
    tab.open(link("train", headless))
    tab.shoot("train-1-begin")
    tab.page.get_by_role("button", name="Fit a head").click()
    tab.page.get_by_role("button", name="Cancel").wait_for()
    tab.page.locator(".js-plotly-plot .scatterlayer path.js-line").first.wait_for(timeout=120_000)
    tab.shoot("train-2-running")
    tab.page.get_by_role("button", name="Use this head").wait_for(timeout=120_000)
    tab.settle()
    tab.page.locator(".js-plotly-plot").nth(1).wait_for()
    tab.shoot("train-3-decide")
    candidate = candidate_of(headless)
    assert candidate is not None
    score = candidate.scores["head"]
    assert any(f"{score.value:.3f}, 95 % interval {score.low:.3f}" in text for text in tab.alerts())
    with tab.page.expect_download() as download:
        tab.page.get_by_role("button", name="Head (.safetensors)").click()
    download.value.save_as(tmp_path / "head.safetensors")
    assert (tmp_path / "head.safetensors").read_bytes() == candidate.head.read_bytes()
    tab.page.get_by_role("button", name="Use this head").click()
    tab.see("In use: a head that was fitted here, on 60 images of pets")
    tab.settle()
    tab.shoot("train-4-in-use")
    assert own_head_path(headless.manifest["model"]).read_bytes() == (tmp_path / "head.safetensors").read_bytes()
    (made,) = [found for found in stores(server, "pets") if found.has_uncertainty]
    assert made.path.name in tab.page.url
    tab.menu("Evaluation")
    tab.see("R-AUROC of the uncertainty")
    metrics = tab.page.locator("[data-testid=stMetricValue]").all_inner_texts()
    # What the page measures on the stored numbers is what was said before: no image is judged by a head that knows it.
    assert f"{evaluate(made).r_auroc:.3f}" in metrics
    assert f"{scores_of(made.manifest['fitted_head'])['head'].value:.3f}" in metrics
