"""Iterative hard thresholding, by hand: one step to the top of a, exact counts, and coming back."""

import torch
from processes import at, convnet, fit, module_of, of_sizes, recipe, task

from advprune.masks import keep_count
from advprune.pruners.iht import Iht

A = torch.tensor([[3.0, -1.0, 0.5, -2.0]])


def test_one_step_of_rate_one_on_a_parabola_is_the_top_of_its_minimum() -> None:
    for seed in range(3):
        net = of_sizes(4)
        with torch.no_grad():
            net[0].weight.copy_(torch.randn(1, 4, generator=torch.Generator().manual_seed(seed)))
        process = Iht(net, task(net, 0.5))
        process.start(net, [])
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.9)
        weight = process.effective("0.weight", net[0].weight)
        ((weight - A) ** 2 / 2).sum().backward()
        optimizer.step()
        process.after_step(at(0), optimizer)
        assert net[0].weight.tolist() == [[3.0, 0.0, 0.0, -2.0]]


def test_a_zero_comes_back_when_its_step_is_larger_than_the_smallest_that_stays() -> None:
    net = of_sizes(3)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.0, 1.0, 2.0]]))
    process = Iht(net, task(net, 0.5))  # half of 3, to even: 2 stay
    process.start(net, [])
    for step, alive in ((0.9, [False, True, True]), (1.1, [True, False, True])):
        net[0].weight.grad = torch.tensor([[-step, 0.0, 0.0]])
        optimizer.step()
        process.after_step(at(0), optimizer)
        assert process.mask("0.weight").tolist() == [alive]


def test_after_each_step_exactly_what_was_asked_for_is_not_zero() -> None:
    net, counted = convnet(), []
    process = Iht(net, task(net, 0.9, scope="global"))
    noted = process.after_step

    def after_step(now, optimizer):
        noted(now, optimizer)
        counted.append(sum(int(w.count_nonzero()) for w in process.weights.values()))
        for weight in process.weights.values():
            assert not optimizer.state[weight]["momentum_buffer"][weight == 0].any()

    process.after_step = after_step
    fit(module_of(process, net, recipe(epochs=3)))
    assert counted == [keep_count(998, 0.9)] * 9
