"""What a ratio is a share of, and how many parameters and MACs are left, on networks that can be counted by hand."""

from pathlib import Path

import pytest
import torch
from torch import nn

from advprune.report.data.pairing import pairing_keys
from advprune.report.data.runs import Run, StoredStage
from advprune.report.table.columns import COLUMNS, count
from advprune.report.table.job_row import ratio_of
from advprune.surgery.cost import counted


def network() -> nn.Sequential:
    """Two 3x3 filters on 4x4 pixels, then three classes: 2 * 9 + 2 and 3 * 32 + 3 parameters, none of them 0."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(32, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1.0)
    return net


def test_a_dense_network_is_counted_whole() -> None:
    assert counted(network(), (1, 4, 4)) == {
        "parameters": 20 + 99,
        "nonzero_parameters": 20 + 99,
        "nonzero_macs": 18 * 16 + 96,
    }


def test_a_zero_of_a_convolution_saves_a_multiplication_at_each_pixel() -> None:
    net = network()
    with torch.no_grad():
        net[0].weight[0] = 0  # 9 weights, at 16 pixels each
        net[2].weight[:, :10] = 0  # 30 weights, once each
    assert counted(net, (1, 4, 4)) == {
        "parameters": 119,
        "nonzero_parameters": 119 - 9 - 30,
        "nonzero_macs": 9 * 16 + 66,
    }


@pytest.mark.parametrize(
    ("options", "meaning"),
    [
        ({"unit": None, "budget": None, "scope": "igq"}, "weights"),
        ({"unit": None, "budget": None, "classifier": True}, "weights"),
        ({"unit": None, "budget": None, "classifier": None}, "weights"),
        ({"unit": None, "budget": None, "classifier": False}, "weights but the classifier's"),
        ({"unit": "filters", "budget": "macs", "scope": "layer"}, "MACs"),
        ({"unit": "filters", "budget": "parameters", "scope": "layer"}, "parameters"),
        ({"unit": "filters", "budget": "filters", "scope": "layer"}, "filters, scope=layer"),
        ({"unit": "filters", "budget": "filters", "scope": "global"}, "filters, scope=global"),
        ({"unit": "blocks", "budget": "blocks", "scope": "layer"}, "blocks"),
    ],
)
def test_what_a_ratio_is_a_share_of(options: dict[str, str | bool | None], meaning: str) -> None:
    assert ratio_of(options) == meaning


@pytest.mark.parametrize(
    ("one", "other", "compared"),
    [
        ({"unit": None, "criterion": "magnitude"}, {"unit": None, "criterion": "random"}, True),
        ({"unit": None}, {"unit": None, "classifier": False}, False),
        ({"unit": "filters", "budget": "macs"}, {"unit": "filters", "budget": "parameters"}, False),
        (
            {"unit": "filters", "budget": "filters", "scope": "layer"},
            {"unit": "filters", "budget": "filters", "scope": "global"},
            False,
        ),
        (
            {"unit": "filters", "budget": "macs", "scope": "layer"},
            {"unit": "filters", "budget": "macs", "scope": "global"},
            True,
        ),
    ],
)
def test_runs_are_compared_if_their_ratios_are_shares_of_one_thing(
    one: dict[str, str | bool | None], other: dict[str, str | bool | None], compared: bool
) -> None:
    def run(pruner: dict[str, str | bool | None]) -> Run:
        options = {"dense": {}, "pruned": {"pruner": pruner}, "evaluated": {"seed": 0}}
        return Run(tuple(StoredStage(k, k, Path(), o, {}, "") for k, o in options.items()))

    shared = pairing_keys(run(one), "pruner") & pairing_keys(run(other), "pruner")
    assert bool(shared) is compared


def test_the_table_has_the_counts_beside_the_ratio_and_none_it_did_not_count() -> None:
    (column,) = (c for c in COLUMNS if c.heading.startswith("sparsity"))
    row = {"zeros": 0.99, "nonzero_parameters": 520, "nonzero_macs": 52_000}
    assert column.cell(row) == "0.9900\n520\n52 k"
    assert column.cell({"zeros": 0.99, "nonzero_parameters": None}) == "0.9900"


@pytest.mark.parametrize(
    ("number", "text"), [(None, "–"), (390, "390"), (396 + 1 / 3, "396"), (4303, "4.3 k"), (6_029_312, "6.03 M"), (2.5e9, "2.5 G")]
)  # fmt: skip
def test_a_count_has_three_digits(number: float | None, text: str) -> None:
    assert count(number) == text
