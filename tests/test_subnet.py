"""The network seen through masks: effective weights shared and never stale, resumed bit by bit, copied, lent."""

import copy
import io
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from processes import at, hydras, lwm, searching, task, trained
from torch import nn

from advprune.errors import UserError
from advprune.masks import check
from advprune.pruners.iht import Iht
from advprune.surgery.subnet import Subnet, apply


def convnet(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(216, 5),
    )


def batch(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(6, 2, 8, 8, generator=generator), torch.randint(
        0, 5, (6,), generator=generator
    )


def fixed(net: nn.Module) -> Subnet:
    return Subnet(net, lwm(net, 0.7))


def slow(subnet: Subnet, x: torch.Tensor) -> torch.Tensor:
    """What the subnet must compute, from its present masks and weights, by zeros in a copy of the plain network."""
    return apply(copy.deepcopy(subnet.net), subnet.masks)(x)


def train(subnet: Subnet, optimizer: torch.optim.Optimizer, seeds) -> None:
    for seed in seeds:
        torch.manual_seed(seed)  # dropout
        x, y = batch(seed)
        if subnet.process is not None:
            hydras(subnet).choose(at(0))
        subnet.refresh()
        optimizer.zero_grad()
        F.cross_entropy(subnet(x), y).backward()
        optimizer.step()


OPTIMIZERS = {
    "loop": partial(torch.optim.SGD, lr=1.0, momentum=0.9, foreach=False),
    "foreach": partial(torch.optim.SGD, lr=1.0, foreach=True),
    "fused": partial(torch.optim.SGD, lr=1.0, fused=True),
    "adam": partial(torch.optim.Adam, lr=0.1),
    "adamw-fused": partial(torch.optim.AdamW, lr=0.1, fused=True),
}


@pytest.mark.parametrize("make", [fixed, searching])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_a_forward_after_an_optimizer_step_sees_the_new_weights(make, optimizer):
    subnet = make(convnet()).eval()
    (x, y), step = batch(), optimizer(trained(subnet))
    F.cross_entropy(subnet(x), y).backward()
    before = subnet(x)  # rebuilt here, so that only the optimizer's writing can make it stale
    step.step()
    with torch.no_grad():
        after = subnet(x)
    torch.testing.assert_close(after, slow(subnet, x))
    assert not torch.allclose(before, after)


def test_a_write_by_hand_and_a_spent_graph_are_seen_without_any_optimizer():
    subnet = fixed(convnet()).eval()
    (x, y), weight = batch(), subnet.net[5].weight
    before = subnet(x)
    with torch.no_grad():
        weight.mul_(2)
    torch.testing.assert_close(subnet(x), slow(subnet, x))
    assert not torch.allclose(before, subnet(x))
    F.cross_entropy(subnet(x), y).backward()
    F.cross_entropy(subnet(x), y).backward()  # would fail on a graph that is gone


def test_weights_loaded_replaced_or_moved_are_seen():
    x, _ = batch()
    subnet, other = fixed(convnet()).eval(), fixed(convnet(seed=3)).eval()
    subnet(x)
    subnet.load_state_dict(other.state_dict())
    torch.testing.assert_close(subnet(x), other(x))
    assert all(torch.equal(subnet.masks[name], mask) for name, mask in other.masks.items())
    subnet.load_state_dict(fixed(convnet()).state_dict(), assign=True)
    torch.testing.assert_close(subnet(x), slow(subnet, x))
    assert subnet.double()(x.double()).dtype == torch.float64


def test_effective_weights_are_made_once_per_step_however_many_forwards():
    subnet = searching(convnet())
    asked, made = hydras(subnet).effective, []
    hydras(subnet).effective = lambda name, weight: (made.append(name), asked(name, weight))[1]
    x, y = batch()
    optimizer = torch.optim.SGD(trained(subnet), lr=0.1)
    for _ in range(3):
        subnet.refresh()
        subnet.eval()
        flags = {p: p.requires_grad for p in subnet.parameters()}
        subnet.requires_grad_(False)  # as an attack does
        x_adv = x.clone()
        for _ in range(10):
            x_adv.requires_grad_(True)
            (grad,) = torch.autograd.grad(F.cross_entropy(subnet(x_adv), y), x_adv)
            x_adv = (x_adv + 0.01 * grad.sign()).detach()
        with torch.no_grad():
            subnet(x)
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
        subnet.train()
        optimizer.zero_grad()
        (F.cross_entropy(subnet(x), y) + F.cross_entropy(subnet(x_adv), y)).backward()
        assert all(hydras(subnet).score(name).grad.any() for name in set(made))
        optimizer.step()
    assert len(made) == 3 * 2


@pytest.mark.parametrize("make", [fixed, searching])
def test_a_first_forward_without_gradients_or_in_a_frozen_model_does_not_cut_the_graph(make):
    x, y = batch()
    for where in (torch.no_grad, torch.inference_mode):
        subnet = make(convnet())
        with where():
            subnet(x)
        F.cross_entropy(subnet(x), y).backward()
        assert all(p.grad is not None for p in trained(subnet))
    frozen = make(convnet()).eval().requires_grad_(False)
    with torch.inference_mode():
        frozen(x)
    assert torch.autograd.grad(F.cross_entropy(frozen(x.requires_grad_(True)), y), x)[0].any()
    subnet = make(convnet())
    parameters = trained(subnet)
    subnet.requires_grad_(False)
    subnet(x)
    for parameter in parameters:
        parameter.requires_grad_(True)
    F.cross_entropy(subnet(x), y).backward()
    assert all(p.grad is not None for p in parameters)


@pytest.mark.parametrize("make", [fixed, searching])
def test_two_backward_passes_without_a_step_add_up(make):
    once, twice = make(convnet()).eval(), make(convnet()).eval()
    x, y = batch()
    F.cross_entropy(once(x), y).backward()
    for _ in range(2):
        F.cross_entropy(twice(x), y).backward()
    for a, b in zip(trained(once), trained(twice), strict=True):
        torch.testing.assert_close(2 * a.grad, b.grad)


def test_an_attack_leaves_no_gradient_and_may_differentiate_twice():
    subnet = searching(convnet()).eval()
    x, y = batch()
    x.requires_grad_(True)
    loss = F.cross_entropy(subnet(x), y)
    first = torch.autograd.grad(loss, x, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(loss, x)[0])
    assert torch.equal(first, torch.autograd.grad(F.cross_entropy(subnet(x), y), x)[0])
    assert all(p.grad is None for p in subnet.parameters())


@pytest.mark.parametrize("make", [fixed, searching])
def test_a_checkpoint_in_the_middle_continues_bit_by_bit(make):
    def start(seed):
        subnet = make(convnet(seed)).train()
        return subnet, torch.optim.SGD(trained(subnet), lr=0.5, momentum=0.9, weight_decay=1e-4)

    whole, optimizer = start(0)
    train(whole, optimizer, range(3))
    file = io.BytesIO()
    torch.save({"net": whole.state_dict(), "optimizer": optimizer.state_dict()}, file)
    train(whole, optimizer, range(3, 6))

    resumed, its_optimizer = start(9)  # other weights, other masks: all must come from the file
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed.load_state_dict(saved["net"])
    its_optimizer.load_state_dict(saved["optimizer"])
    train(resumed, its_optimizer, range(3, 6))
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert all(torch.equal(resumed.masks[name], mask) for name, mask in whole.masks.items())
    (state, _), (again, _) = whole.export(), resumed.export()
    assert all(torch.equal(again[name], value) for name, value in state.items())


@pytest.mark.parametrize("make", [fixed, searching])
def test_a_deep_copy_after_a_forward_is_equal_and_apart(make):
    subnet = make(convnet()).eval()
    x, _ = batch()
    output = subnet(x)
    copied = copy.deepcopy(subnet)
    assert torch.equal(copied(x), output)
    train(copied, torch.optim.SGD(trained(copied), lr=1.0), [1, 2])
    torch.testing.assert_close(copied(x), slow(copied, x))
    assert torch.equal(subnet(x), output)


def test_a_process_exports_its_masks():
    subnet = searching(convnet())
    first = subnet.masks
    train(subnet, torch.optim.SGD(trained(subnet), lr=5.0), [1, 2, 3])
    hydras(subnet).choose(at(0))
    importance = hydras(subnet).importance()
    present = task(subnet.net, 0.7).masks(importance)
    assert any(not torch.equal(present[name], first[name]) for name in first)
    state, masks = subnet.export()
    assert all(torch.equal(masks[name], present[name]) for name in present)
    plain = convnet(4)
    plain.load_state_dict(state)
    check(plain, masks)


def test_what_is_its_own_effective_weight_stays_in_its_place():
    net = convnet()
    process = Iht(net, task(net, 0.7))
    process.start(net, [])
    subnet = Subnet(net, process=process)
    own, (x, y) = net[0].weight, batch()
    for _ in range(3):
        with subnet.pruned() as lent:
            assert lent[0].weight is own
        F.cross_entropy(subnet(x), y).backward()
    assert not own._backward_hooks  # none is left on a parameter, which lives on
    assert own.grad[~process.mask("0.weight")].any()


def test_the_lent_network_has_the_effective_weights_and_gets_its_own_back():
    subnet = fixed(convnet()).eval()
    own = subnet.net[0].weight
    x, _ = batch()
    with subnet.pruned() as net:
        assert torch.equal(net[0].weight, own * subnet.masks["0.weight"])
        assert torch.equal(net(x), subnet(x))
    assert subnet.net[0].weight is own
    with pytest.raises(RuntimeError):  # a forward that fails
        subnet(x[:, :1])
    assert subnet.net[0].weight is own
    assert isinstance(own, nn.Parameter)


def test_a_weight_two_layers_share_is_masked_in_both():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    subnet = Subnet(net, {"0.weight": torch.eye(4, dtype=torch.bool)})
    with subnet.pruned() as seen:
        assert torch.equal(seen[1].weight, net[0].weight * torch.eye(4))
    state, _ = subnet.export()
    assert all(int(state[f"{i}.weight"].count_nonzero()) == 4 for i in (0, 1))


def test_the_mode_of_the_network_follows_and_is_kept_at_the_start():
    subnet = fixed(convnet().eval())
    assert not subnet.training
    assert subnet.train().net[1].training
    assert not subnet.eval().net[1].training


def test_apply_zeroes_the_masked_weights_alone_and_touches_nothing_if_one_mask_is_wrong():
    net, masks = convnet(), fixed(convnet()).masks
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(UserError, match=r"the mask of 5.weight is torch.bool \(216, 5\)"):
        apply(net, masks | {"5.weight": masks["5.weight"].T})
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert apply(net, masks) is net
    for name, value in net.state_dict().items():
        expected = torch.where(masks[name], before[name], 0.0) if name in masks else before[name]
        assert torch.equal(value, expected)
        assert not torch.signbit(
            value[value == 0]
        ).any()  # no -0.0, whose bits a checksum would see


def test_wrong_arguments_are_refused():
    net = convnet()
    with pytest.raises(ValueError, match="a Subnet takes masks, or a process"):
        Subnet(net)
    with pytest.raises(UserError, match="bn='foo' is not one of train, freeze_affine, freeze_all"):
        searching(net, bn="foo")
    with pytest.raises(UserError, match=r"5\.weight has no mask"):
        Subnet(net, {"0.weight": torch.ones_like(net[0].weight, dtype=torch.bool)})
