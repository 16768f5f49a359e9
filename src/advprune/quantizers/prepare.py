"""From a float network to its fake-quantized twin: fold, and insert quantizers.

Post-training static and dynamic quantization, and the network that quantization-aware training
starts from (Jacob et al. 2018, https://arxiv.org/abs/1712.05877; Krishnamoorthi 2018,
https://arxiv.org/abs/1806.08342). Differs from them in what dynamic means: the range is each
image's own, not the batch's, so that a prediction belongs to its image.
"""

import copy
from typing import Annotated, Any, Literal, TypeAlias

import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from advprune.errors import UserError
from advprune.quantizers.fake_quant import (
    ActivationQuant,
    QuantConv2d,
    QuantLinear,
    set_input_quantizer,
)
from advprune.quantizers.tracing import (
    ACTIVATIONS,
    KEEPS,
    MAKES,
    NORMS,
    WEIGHTED,
    inputs,
    keeps_value,
    makes_value,
    of,
    traced,
)
from advprune.ranges import refuse_outside

Levels: TypeAlias = Annotated[int, Ge(1), Le(255)]


def quantize(
    model: nn.Module, *, ranges: Literal["static", "dynamic"] = "static", levels: Levels = 127
) -> fx.GraphModule:
    """Return a fake-quantized copy of ``model``; static ranges are still to be calibrated.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), left as found. Its weights keep their
            names.
        ranges: of the activations: ``static`` measured beforehand, or ``dynamic`` of each image.
        levels: steps that a range gets: 127, or 255 for processors with VNNI or AMX alone.

    Raises:
        UserError: naming the layer that cannot be quantized, or a number of levels out of range.
    """
    refuse_outside(quantize, ranges=ranges, levels=levels)
    float_copy = copy.deepcopy(model).eval()
    net = fx.GraphModule(float_copy, traced(float_copy))
    _check(net)
    _fold(net)
    for module in net.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = QuantConv2d
        elif type(module) is nn.Linear:
            module.__class__ = QuantLinear
    _insert(net, ranges, levels)
    for node in net.graph.nodes:
        if isinstance(of(net, node), WEIGHTED):
            set_input_quantizer(of(net, node), of(net, inputs(node)[0]))
    net.graph.lint()
    net.recompile()
    return net


def _check(net: fx.GraphModule) -> None:
    for node in net.graph.nodes:
        if node.op in ("placeholder", "output") or makes_value(net, node) or keeps_value(net, node):
            continue
        what = of(net, node)
        named = type(what) if isinstance(what, nn.Module) else what
        kind = getattr(named, "__name__", named)
        known = ", ".join(sorted(module.__name__ for module in (*MAKES, *KEEPS)))
        layer = node.target if node.op == "call_module" else node.name
        raise UserError(
            f"quantizer: layer {layer} is a {kind}, which cannot be quantized; {known} can"
        )


def _fold(net: fx.GraphModule) -> None:
    """Fold each batch norm into the layer before it; one without such a layer stays, in float."""
    for node in list(net.graph.nodes):
        if node.op != "call_module" or not isinstance(of(net, node), NORMS):
            continue
        before = inputs(node)[0]
        layer = of(net, before) if before.op == "call_module" else None
        if not isinstance(layer, WEIGHTED) or len(before.users) > 1:
            continue
        fuse: Any = fuse_conv_bn_eval if isinstance(layer, nn.Conv2d) else fuse_linear_bn_eval
        owner, _, name = str(before.target).rpartition(".")
        setattr(net.get_submodule(owner), name, fuse(layer, of(net, node)))
        node.replace_all_uses_with(before)
        net.graph.erase_node(node)
    net.delete_all_unused_submodules()


def _insert(net: fx.GraphModule, ranges: Literal["static", "dynamic"], levels: int) -> None:
    """Insert the quantizers.

    Static: after everything that computes new numbers, but the logits. Dynamic: before each layer
    with weights.
    """
    net.add_module("quantizers", nn.ModuleDict())
    if ranges == "dynamic":
        for node in list(net.graph.nodes):
            if node.op == "call_module" and isinstance(of(net, node), WEIGHTED):
                _put(net, inputs(node)[0], _add(net, ranges, levels), before=node)
        return
    grids: dict[fx.Node, str] = {}
    last = inputs(next(node for node in net.graph.nodes if node.op == "output"))[0]
    for node in list(net.graph.nodes):
        if node.op in ("placeholder", "output") or node is last:
            continue
        users = list(node.users)
        if len(users) == 1 and (
            isinstance(of(net, users[0]), ACTIVATIONS) or of(net, users[0]) is F.relu
        ):
            continue
        source = inputs(node)[0]
        grids[node] = (
            grids[source]
            if keeps_value(net, node) and source in grids
            else _add(net, ranges, levels)
        )
        grids[_put(net, node, grids[node])] = grids[node]


def _add(net: fx.GraphModule, ranges: Literal["static", "dynamic"], levels: int) -> str:
    held = net.get_submodule("quantizers")
    name = f"q{len(list(held.children()))}"
    held.add_module(name, ActivationQuant(levels=levels, ranges=ranges))
    return f"quantizers.{name}"


def _put(
    net: fx.GraphModule, node: fx.Node, quantizer: str, *, before: fx.Node | None = None
) -> fx.Node:
    with net.graph.inserting_before(before) if before else net.graph.inserting_after(node):
        call = net.graph.call_module(quantizer, (node,))
    if before:
        before.replace_input_with(node, call)
    else:
        node.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)
    return call
