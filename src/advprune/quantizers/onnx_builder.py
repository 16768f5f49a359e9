"""Build an ONNX graph node by node."""

from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor, fx

OPSET, IR = 17, 9


class OnnxBuilder:
    """Collect the nodes and constants of a graph from ``x`` (n, C, H, W) to ``y`` (n, K).

    Args:
        onnx: the package.
    """

    def __init__(self, onnx: ModuleType) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node, and return the name of its output.

        Args:
            kind: ONNX's name of the operator.
            inputs: names of values.
            **attributes: of the operator.
        """
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, node: fx.Node, name: str, value: Any) -> str:
        """Add a constant of a layer, a tensor or whole numbers, and return its name."""
        array = (
            value.detach().cpu().numpy()
            if isinstance(value, Tensor)
            else np.asarray(value, dtype=np.int64)
        )
        return self._store(f"{node.name}.{name}", np.ascontiguousarray(array).reshape(array.shape))

    def value(self, name: str, value: float) -> str:
        """Add a number that several nodes may share, and return its name."""
        return self._store(name, np.array(value, dtype=np.float32))

    def _store(self, name: str, array: np.ndarray) -> str:
        self.constants[name] = self.onnx.numpy_helper.from_array(array, name)
        return name

    def serialized(self, output: str) -> bytes:
        """Return the model whose output is this value, checked by ONNX."""
        helper, kind = self.onnx.helper, self.onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            [*self.nodes, helper.make_node("Identity", [output], ["y"])],
            "network",
            [helper.make_tensor_value_info("x", kind, ["n", "c", "h", "w"])],
            [helper.make_tensor_value_info("y", kind, ["n", "k"])],
            list(self.constants.values()),
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR)
        self.onnx.checker.check_model(model)
        serialized: bytes = model.SerializeToString()
        return serialized
