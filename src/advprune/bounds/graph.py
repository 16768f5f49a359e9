"""A network as a list of operations, traced with ``torch.fx``; unknown operations are errors.

A trace is kept as long as its network and reused while the network has the same layers; weights and
constants are read when bounds are computed, so they may train, be masked or move to a device.
"""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import fx, nn

from advprune.bounds.functions import of_call
from advprune.bounds.layers import of_module, refuse_training
from advprune.bounds.ops import Op
from advprune.errors import UserError


@dataclass(frozen=True)
class Step:
    """One operation of a network; step 0 is the network's input and has none.

    Attributes:
        name: name of the node in the trace.
        op: the operation; None for the input.
        inputs: indices of the steps whose outputs it takes.
    """

    name: str
    op: Op | None
    inputs: tuple[int, ...]


#: Tracing costs more than a training step; an entry is dropped together with its network.
_TRACES: WeakKeyDictionary[nn.Module, tuple[Any, list[Step]]] = WeakKeyDictionary()


def trace(model: nn.Module) -> list[Step]:
    """List the operations of ``model`` in order, each after its inputs; the last gives the logits.

    Raises:
        UserError: naming an operation that bounds do not know and where to write it, or a layer in
            train mode.
    """
    layers = tuple(map(id, model.modules()))
    if model not in _TRACES or _TRACES[model][0] != layers:
        _TRACES[model] = (layers, _Reader(model).steps())
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
            refuse_training(module)
    return _TRACES[model][1]


class _Reader:
    """Converter of the nodes of a trace into steps."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.out = model, [Step("input", None, ())]
        self.at: dict[fx.Node, int] = {}

    def steps(self) -> list[Step]:
        """Return the steps of the whole network."""
        for node in self._nodes():
            if node.op == "placeholder":
                self.at[node] = 0
            elif node.op == "output":
                last = self.at.get(node.args[0], -1)  # type: ignore[arg-type]
                if last != len(self.out) - 1:
                    raise UserError(
                        "bounds need one output, the logits; "
                        f"{type(self.model).__name__} gives others"
                    )
            elif node.op != "get_attr":
                self._add(node)
        return self.out

    def _nodes(self) -> list[fx.Node]:
        try:
            return _needed_nodes(fx.Tracer().trace(self.model))
        except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
            name = type(self.model).__name__
            raise UserError(
                f"bounds cannot read {name}, whose forward depends on its values: {error}"
            ) from error

    def _add(self, node: fx.Node) -> None:
        sources = [arg for arg in node.args if isinstance(arg, fx.Node) and arg in self.at]
        for op in self._ops(node, len(sources)):
            inputs = tuple(self.at[source] for source in sources)
            self.out.append(Step(node.name, op, inputs))
            self.at[node] = len(self.out) - 1
            sources = [node]
        if node not in self.at:  # an identity
            self.at[node] = self.at[sources[0]]

    def _ops(self, node: fx.Node, sources: int) -> list[Op]:
        if node.op == "call_module" and sources == 1:
            module = self.model.get_submodule(str(node.target))
            ops, name = of_module(module), type(module).__name__
        else:
            ops = of_call(node, sources, self.model, self.at)
            name = (
                node.target
                if isinstance(node.target, str)
                else getattr(node.target, "__name__", str(node.target))
            )
        if ops is None:
            raise UserError(
                f"bounds do not know the operation {name} ({node.name} in "
                f"{type(self.model).__name__}); write it in src/advprune/bounds/ops.py and name it "
                "in layers.py or functions.py, or use another network, such as model=cnn_small"
            )
        return ops


def _needed_nodes(graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes that the output depends on, in order, and the input."""
    needed: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op in ("output", "placeholder") or node in needed:
            needed |= {node, *node.all_input_nodes}
    return [node for node in graph.nodes if node in needed]
