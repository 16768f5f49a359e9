"""A chain of mostly zero weights as products with sparse matrices: its logits and slopes, and where it is one."""

import subprocess
import sys

import pytest
import torch
from test_lean_view import NETWORKS, images, slope
from torch import nn

from advprune.attacks.fast import chain
from advprune.attacks.fast import sparse_layer as module
from advprune.attacks.fast.chain import Affine, Chain, Convolution, Dense, chain_of
from advprune.attacks.fast.network import searcher
from advprune.attacks.fast.searcher import ChainSearcher
from advprune.attacks.fast.sparse_layer import Columns, sparse_layer
from advprune.frozen import effective_network
from advprune.threat import Linf


def as_chain(net: nn.Module, x: torch.Tensor) -> Chain:
    with effective_network(net) as plain:
        return chain_of([plain], x, sparse_layer)


def is_sparse(layer: object) -> bool:
    return isinstance(layer, Columns) and layer.weight.layout == torch.sparse_csr


@pytest.mark.parametrize("dearer", [0, 5], ids=["all sparse", "as it is"])
@pytest.mark.parametrize("largest", [0, 1 << 17], ids=["convolutions", "matrices"])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_slopes_are_the_networks(
    name: str, largest: int, dearer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where dense and sparse layers follow each other."""
    monkeypatch.setattr(chain, "MATRIX", largest)
    monkeypatch.setattr(module, "DEARER", dearer)
    net, x = NETWORKS[name]().double().eval(), images(name)
    found = as_chain(net, x)
    assert any(map(is_sparse, found.layers)) or dearer
    for ours, expected in zip(slope(found, x), slope(net, x), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("kept", "sparse"), [(115, True), (116, False)])
def test_a_convolution_is_sparse_from_four_fifths_of_zeros_on(kept: int, sparse: bool) -> None:
    """Five sparse multiplications for each weight that is kept, against all 8 x 8 x 3 x 3 = 576."""
    weight = torch.zeros(576).index_fill(0, torch.randperm(576)[:kept], 1.0).view(8, 8, 3, 3)
    block = Affine(weight, None, padding=(1, 1), active=True)
    layer = sparse_layer(block, weight, torch.zeros(1, 8, 8, 8), torch.Size((8, 8)))
    assert is_sparse(layer) == sparse
    assert isinstance(layer, Columns if sparse else Convolution)


def test_a_convolution_whose_matrix_would_be_large_stays_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight = torch.zeros(8, 8, 3, 3)
    block = Affine(weight, None, padding=(1, 1), active=True)
    arguments = (block, weight, torch.zeros(1, 8, 8, 8), torch.Size((8, 8)))
    assert is_sparse(sparse_layer(*arguments))
    monkeypatch.setattr(module, "ENTRIES", 512 * 512 - 1)
    assert isinstance(sparse_layer(*arguments), Convolution)


def test_without_mkl_every_layer_is_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    layers = as_chain(NETWORKS["masked at 0.99"]().eval(), torch.rand(2, 1, 8, 8)).layers
    assert not any(isinstance(layer, Columns) for layer in layers)
    assert any(isinstance(layer, Dense) for layer in layers)


@pytest.mark.parametrize("name", ["masked at 0.9", "dense"])
def test_an_attack_searches_on_sparse_layers_where_most_weights_are_zero(name: str) -> None:
    net, x = NETWORKS[name]().eval().requires_grad_(False), torch.rand(5, 1, 8, 8)
    found = searcher(net, x, torch.zeros(5).long(), net(x), Linf(0.1), "fp32")
    assert isinstance(found, ChainSearcher)
    assert any(map(is_sparse, found.chain.layers)) == (name != "dense")
    for count in (0, 1, 5):  # an attack asks about the images that are left
        torch.testing.assert_close(found.ask(x[:count]), net(x[:count]))


def test_a_library_that_multiplies_wrongly_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As MKL once did with matrices that are not square: https://github.com/pytorch/pytorch/issues/58770."""
    net, x = NETWORKS["masked at 0.99"]().eval().requires_grad_(False), torch.rand(5, 1, 8, 8)
    right = Columns.forward
    monkeypatch.setattr(Columns, "forward", lambda layer, values: 1.1 * right(layer, values))
    found = searcher(net, x, torch.zeros(5).long(), net(x), Linf(0.1), "fp32")
    assert found.folded
    assert not isinstance(found, ChainSearcher)


def test_torch_says_nothing_of_a_beta() -> None:
    code = "import torch; from advprune.attacks.fast.sparse_layer import Columns; "
    code += "Columns(torch.eye(3), torch.zeros(3), sparse=True).forward(torch.ones(2, 3))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stderr == ""
