"""Several ranks do what one process does: noise, batches, BatchNorm, steps, masks; and they stop together."""

import time
from pathlib import Path
from typing import Any

import pytest
import rank_work
import torch
from torch import nn

from advprune.datasets.images import CropFlip, Split
from advprune.datasets.loader import EvalLoader, TrainLoader
from advprune.distributed.sharding import Shard, of_batch, sample_rows, sharded_random
from advprune.errors import UserError
from advprune.objectives.free import Free
from advprune.pipeline.spawn import RankDiedError, on_ranks
from advprune.threat import L2, Linf


def shares(ranks: int) -> list[Shard]:
    return [Shard(rank, ranks) for rank in range(ranks)]


@pytest.mark.parametrize(("whole", "ranks"), [(8, 2), (7, 2), (7, 3), (2, 3), (1, 4)])
def test_rows_are_dealt_once_and_their_means_weighted(whole: int, ranks: int) -> None:
    value = torch.randn(whole, dtype=torch.float64)
    parts = [(share, share.of(whole)) for share in shares(ranks)]
    assert sorted(int(row) for share, rows in parts for row in rows[: share.count(whole)]) == list(
        range(whole)
    )
    assert all(len(rows) for _, rows in parts)  # a rank without rows borrows one
    mean = sum(value[rows].mean() * share.weight(whole) for share, rows in parts) / ranks
    assert mean == pytest.approx(value.mean().item(), abs=1e-15)


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.5)], ids=["linf", "l2"])
def test_noise_is_that_of_the_whole_batch(ball: Any) -> None:
    x = torch.rand(7, 1, 4, 4)
    torch.manual_seed(0)
    whole, after = ball.sample(x, sharded_random), torch.rand(())
    for share in shares(3):
        torch.manual_seed(0)
        with of_batch(share, 7):
            assert torch.equal(ball.sample(x[share.of(7)], sharded_random), whole[share.of(7)])
        assert torch.rand(()) == after  # so the next draw is in step, too


def test_noise_along_another_axis_and_of_a_part() -> None:
    torch.manual_seed(0)
    whole = torch.randn(2, 5, 3)
    torch.manual_seed(0)
    with of_batch(Shard(1, 2), 5):
        assert torch.equal(
            sharded_random(torch.randn_like, torch.empty(2, 2, 3), axis=1), whole[:, [1, 3]]
        )
        assert sharded_random(torch.randn_like, torch.empty(1, 3)).shape == (
            1,
            3,
        )  # some of the rows: drawn for themselves


def test_a_few_images_of_the_batch_are_the_same_few() -> None:
    loss = torch.randn(7, dtype=torch.float64)
    torch.manual_seed(0)
    chosen, weight = sample_rows(7, 5, torch.device("cpu"))
    expected = loss[chosen].mean() * weight
    found = torch.zeros((), dtype=torch.float64)
    for share in shares(3):
        torch.manual_seed(0)
        mine = loss[share.of(7)]
        with of_batch(share, 7):
            here, weight = sample_rows(len(mine), 5, torch.device("cpu"))
        found += share.weight(7) * weight * (mine[here].mean() if len(here) else 0) / 3
    assert found.item() == pytest.approx(expected.item(), abs=1e-15)


def images(count: int, start: int = 0) -> Split:
    pixels = (
        torch.arange(start, start + count * 16).remainder(251).to(torch.uint8).view(count, 1, 4, 4)
    )
    return Split(pixels, torch.arange(start, start + count))


@pytest.mark.parametrize("extra", [None, images(5, 100)], ids=["own", "extra"])
def test_training_batches_are_the_rows_of_one_process(extra: Split | None) -> None:
    options: Any = {
        "batch_size": 4,
        "seed": 1,
        "augment": CropFlip(crop=1, flip=True),
        "extra": extra,
        "repeats": 2,
    }
    alone = list(TrainLoader(images(10), **options))
    loaders = [TrainLoader(images(10), share=share, **options) for share in shares(3)]
    assert {len(loader) for loader in loaders} == {len(alone)} == {6}
    for share, loader in zip(shares(3), loaders, strict=True):
        for (x, y), (x_here, y_here, whole) in zip(alone, loader, strict=True):
            assert whole == len(x)
            assert torch.equal(x_here, x[share.of(whole)])
            assert torch.equal(y_here, y[share.of(whole)])


def test_test_batches_go_whole_to_one_rank_and_validation_ones_by_rows() -> None:
    options: Any = {"batch_size": 4, "indices": torch.tensor([9, 1, 8, 2, 7, 3, 6, 4, 5])}
    whole = [p.tolist() for _, _, p in EvalLoader(images(10), positions=True, **options)]
    dealt = [EvalLoader(images(10), positions=True, share=share, **options) for share in shares(2)]
    assert [[p.tolist() for _, _, p in loader] for loader in dealt] == [whole[0::2], whole[1::2]]
    assert [len(loader) for loader in dealt] == [2, 1]
    rows = [
        [(y.tolist(), n) for _, y, n in EvalLoader(images(10), share=share, **options)]
        for share in shares(2)
    ]
    assert rows[0] == [([9, 8], 4), ([7, 6], 4), ([5], 1)]
    assert rows[1] == [
        ([1, 2], 4),
        ([3, 4], 4),
        ([5], 1),
    ]  # the last one is borrowed, without weight


def test_free_remembers_by_the_place_in_the_whole_batch() -> None:
    torch.manual_seed(0)
    net, x, y = (
        nn.Sequential(nn.Flatten(), nn.Linear(16, 2)),
        torch.rand(5, 1, 4, 4),
        torch.tensor([0, 1, 0, 1, 1]),
    )
    alone, dealt = Free(threat=Linf(0.1)), [Free(threat=Linf(0.1)) for _ in range(2)]
    alone(net, x, y, progress=0.0).backward()
    for share, free in zip(shares(2), dealt, strict=True):
        rows = share.of(5)
        with of_batch(share, 5):
            free(net, x[rows], y[rows], progress=0.0).backward()
        assert torch.equal(free.noise[rows], alone.noise[rows])
        assert free.noise.shape == alone.noise.shape


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return rank_work.alone(tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module", params=[2, 3])
def together(
    request: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, list[dict[str, Any]]]:
    size = request.param
    found = on_ranks(size, rank_work.all_of_it, size, tmp_path_factory.mktemp("ranks"))
    return size, [found[rank] for rank in range(size)]


def test_what_ranks_say_to_each_other(together: Any) -> None:
    size, found = together
    for rank, words in enumerate(f["words"] for f in found):
        assert words["said"] == "by 0"
        assert words["everyones"] == list(range(size))
        assert words["total"].tolist() == [size, sum(range(size))]
        assert words["averaged"].item() == (size - 1) / 2
        assert words["handed_out"]["a"].tolist() == [n % 2 == 0 for n in range(11)]
        assert words["handed_out"]["b"].tolist() == [[True] * 3] * 2
        assert words["apart"] == (1, [rank], rank == 0)
        assert words["disagree"].startswith("rank 1 has not the code that rank 0 has")
        assert words["data"].startswith(f"rank {size - 1} has not the images that rank 0 has")


@pytest.mark.parametrize("what", ["trades", "free", "mixtrain", "awp", "masks"])
def test_training_is_that_of_one_process(together: Any, alone: dict[str, Any], what: str) -> None:
    """In float64, where rounding is too small to look like anything else; BatchNorm synchronised."""
    for found in together[1]:
        assert found[what].keys() == alone[what].keys()
        for name, expected in alone[what].items():
            assert torch.allclose(
                found[what][name].double(), expected.double(), rtol=0, atol=1e-9
            ), name


def test_the_training_compared_did_something(alone: dict[str, Any]) -> None:
    fresh = {f"net.{name}": value for name, value in rank_work.Precise().state_dict().items()}
    for what in ("trades", "free", "mixtrain"):
        moved = {
            name: (alone[what][name].double() - value.double()).abs().max()
            for name, value in fresh.items()
        }
        assert min(moved.values()) > 1e-4, moved
    assert alone["free"]["objective._extra_state"].abs().max() > 0
    assert (
        0 < sum(alone["masks"][name].sum() for name in alone["masks"] if "scores" not in name) < 400
    )


@pytest.mark.parametrize("mode", ["local", "rank0"])
def test_other_batch_norms_differ_and_end_the_same_on_all_ranks(
    together: Any, alone: Any, mode: str
) -> None:
    first, *others = [found[mode] for found in together[1]]
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)
    assert not torch.allclose(
        first["net.net.1.running_mean"], alone["trades"]["net.net.1.running_mean"], atol=1e-6
    )


def test_batch_norm_over_unevenly_dealt_rows() -> None:
    x = (
        torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        .double()
        .requires_grad_()
    )
    norm = nn.BatchNorm2d(3).double()
    y = norm(x)
    (y**3).sum().backward()
    for rank, (found, grad, var) in on_ranks(3, rank_work.uneven_sum, 3).items():
        rows = Shard(rank, 3).of(5)
        assert torch.allclose(found, y[rows], atol=1e-12)
        assert torch.allclose(grad, x.grad[rows], atol=1e-12)
        assert torch.allclose(var, norm.running_var, atol=1e-12)


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("sentence", UserError, r"^the loss is nan; lower the learning rate$"),
        (
            "defect",
            RankDiedError,
            r"rank 1 of 3 failed and the others were stopped; it said:\n(.|\n)*somewhere deep",
        ),
        (
            "kill",
            RankDiedError,
            r"^rank 1 of 3 was killed \(SIGKILL\) and the others were stopped$",
        ),
    ],
)
def test_a_rank_that_dies_ends_the_others(how: str, error: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=said):
        on_ranks(3, rank_work.dies, 3, how, str(tmp_path))
    assert time.time() - (tmp_path / "died").stat().st_mtime < 300
