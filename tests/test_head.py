"""The uncertainty head is the paper's, and never teaches the backbone."""

from __future__ import annotations

import pytest
import torch

from pvu.head import UncertaintyHead


def test_it_has_the_papers_parameters() -> None:
    assert sum(parameter.numel() for parameter in UncertaintyHead(768).parameters()) == 656_897


def test_it_is_the_formula() -> None:
    torch.manual_seed(0)
    head, z = UncertaintyHead(6, 5), torch.randn(7, 6)
    weights = list(head.parameters())
    hidden = z
    for weight, bias in zip(weights[0:4:2], weights[1:4:2], strict=True):
        hidden = hidden @ weight.T + bias
        hidden = torch.where(hidden > 0, hidden, 0.01 * hidden)
    raw = hidden @ weights[4].T + weights[5]
    expected = torch.log1p(torch.exp(raw)).squeeze(1) + 1e-6
    assert head(z).shape == (7,)
    torch.testing.assert_close(head(z), expected)


def test_it_is_positive_however_large_the_representation() -> None:
    torch.manual_seed(0)
    head = UncertaintyHead(16)
    for scale in (0, 1, 1e3, 1e6):
        u = head(scale * torch.randn(100, 16))
        assert (u >= 1e-6).all()
        assert torch.isfinite(u).all()


def test_gradients_stop_at_the_representation() -> None:
    z = torch.randn(4, 8, requires_grad=True)
    head = UncertaintyHead(8)
    head(z).sum().backward()
    assert z.grad is None
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in head.parameters())


@pytest.mark.parametrize("shape", [(8,), (2, 7), (2, 8, 1)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape \(B, 8\), got \("):
        UncertaintyHead(8)(torch.zeros(shape))


@pytest.mark.parametrize(("dim", "hidden"), [(0, 5), (5, 0), (-1, 5)])
def test_widths_must_be_positive(dim: int, hidden: int) -> None:
    with pytest.raises(ValueError, match=f"got dim={dim}, hidden={hidden}"):
        UncertaintyHead(dim, hidden)
