"""Write a fake-quantized network as an ONNX graph, which onnxruntime runs in integers.

Static: quantize and dequantize nodes around each operator, which onnxruntime fuses into its integer
kernels. Dynamic: ``DynamicQuantizeLinear`` with ``ConvInteger`` or ``MatMulInteger``.
"""

import operator
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from advprune.errors import UserError
from advprune.quantizers.fake_quant import (
    ActivationQuant,
    integer_weight,
    weight_scales,
    whole_bias,
)
from advprune.quantizers.tracing import inputs, of, standardises

OPSET, IR = 17, 9


def serialize(net: fx.GraphModule, *, quantized: bool = True) -> bytes:
    """Serialise the network as an ONNX model from ``x`` (n, C, H, W) to ``y`` (n, K).

    Args:
        net: of ``prepare.quantize``, calibrated.
        quantized: False leaves out all quantization: the float network with its batch norms folded,
            for comparison.

    Raises:
        UserError: if the extra is not installed, or naming a layer that has no counterpart.
    """
    try:
        import onnx
    except ImportError:
        raise UserError(
            "an int8 file needs onnx, which is not installed: pip install 'advprune[quant]'"
        ) from None
    return _Writer(onnx, net, quantized).write()


class _Writer:
    def __init__(self, onnx: ModuleType, net: fx.GraphModule, quantized: bool) -> None:
        self.onnx, self.net, self.quantized = onnx, net, quantized
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.names: dict[fx.Node, str] = {}

    def write(self) -> bytes:
        helper, kind = self.onnx.helper, self.onnx.TensorProto.FLOAT
        for node in self.net.graph.nodes:
            if node.op == "placeholder":
                self.names[node] = "x"
            elif node.op == "output":
                self.nodes.append(
                    helper.make_node("Identity", [self.names[inputs(node)[0]]], ["y"])
                )
            else:
                self.names[node] = self._emit(node, of(self.net, node))
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("x", kind, ["n", "c", "h", "w"])],
            [helper.make_tensor_value_info("y", kind, ["n", "k"])],
            list(self.constants.values()),
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR
        )
        self.onnx.checker.check_model(model)
        return model.SerializeToString()

    def _emit(self, node: fx.Node, what: object) -> str:
        operands = [self.names[a] for a in inputs(node) if isinstance(a, fx.Node)]
        if isinstance(what, ActivationQuant):
            return self._quantizer(node, what, operands[0])
        if isinstance(what, nn.Conv2d | nn.Linear):
            return self._weighted(node, what, operands[0])
        if isinstance(what, nn.Dropout | nn.Identity):
            return operands[0]
        if isinstance(what, nn.Module) and standardises(what):
            centred = self._add(
                "Sub", [operands[0], self._constant(node, "mean", what.get_buffer("mean")[None])]
            )
            return self._add(
                "Div", [centred, self._constant(node, "std", what.get_buffer("std")[None])]
            )
        if isinstance(what, nn.BatchNorm2d | nn.BatchNorm1d):
            numbers = [what.weight, what.bias, what.running_mean, what.running_var]
            stored = [self._constant(node, str(i), number) for i, number in enumerate(numbers)]
            return self._add("BatchNormalization", [operands[0], *stored], epsilon=what.eps)
        return self._plain(node, what, operands)

    def _plain(self, node: fx.Node, what: object, operands: list[str]) -> str:
        """Write an operator that has no weights."""
        if isinstance(what, nn.ReLU) or what is F.relu:
            return self._add("Relu", operands)
        if isinstance(what, nn.ReLU6):
            return self._add("Clip", [*operands, self._value("zero", 0.0), self._value("six", 6.0)])
        if what in (operator.add, operator.iadd, torch.add) and len(operands) == 2:
            return self._add("Add", operands)
        if what is torch.cat:
            joined = [self.names[part] for part in inputs(node)[0]]
            return self._add("Concat", joined, axis=inputs(node)[1])
        if isinstance(what, nn.Flatten) or what is torch.flatten:
            return self._add("Flatten", operands, axis=1)
        if isinstance(what, nn.AdaptiveAvgPool2d) and what.output_size in (1, (1, 1)):
            return self._add("GlobalAveragePool", operands)
        if what is F.adaptive_avg_pool2d and inputs(node)[1] in (1, (1, 1)):
            return self._add("GlobalAveragePool", operands)
        if isinstance(what, nn.MaxPool2d | nn.AvgPool2d):
            kind = "MaxPool" if isinstance(what, nn.MaxPool2d) else "AveragePool"
            sizes = {"kernel_shape": _pair(what.kernel_size), "strides": _pair(what.stride)}
            return self._add(
                kind, operands, pads=_pair(what.padding) * 2, ceil_mode=int(what.ceil_mode), **sizes
            )
        if what is F.pad:
            pads = list(inputs(node)[1])
            before, after = pads[::2][::-1], pads[1::2][::-1]
            none = [0] * (4 - len(before))
            return self._add(
                "Pad", [*operands, self._constant(node, "pads", [*none, *before, *none, *after])]
            )
        if what is operator.getitem and all(isinstance(cut, slice) for cut in inputs(node)[1]):
            steps = {
                axis: cut.step or 1
                for axis, cut in enumerate(inputs(node)[1])
                if cut != slice(None)
            }
            if all(cut.start is None and cut.stop is None for cut in inputs(node)[1]):
                numbers = [
                    [0] * len(steps),
                    [2**31] * len(steps),
                    list(steps),
                    list(steps.values()),
                ]
                cuts = [self._constant(node, f"s{i}", number) for i, number in enumerate(numbers)]
                return self._add("Slice", [*operands, *cuts])
        raise UserError(
            f"quantizer.runs=int8: layer {node.target} has no int8 counterpart; give "
            "quantizer.runs=fake_quant"
        )

    def _quantizer(self, node: fx.Node, what: ActivationQuant, x: str) -> str:
        if not self.quantized or what.ranges == "dynamic":
            return x
        scale, zero = what.numbers()
        numbers = [
            self._constant(node, "scale", scale),
            self._constant(node, "zero", zero.to(torch.uint8)),
        ]
        return self._add("DequantizeLinear", [self._add("QuantizeLinear", [x, *numbers]), *numbers])

    def _weighted(self, node: fx.Node, what: nn.Conv2d | nn.Linear, x: str) -> str:
        conv = isinstance(what, nn.Conv2d)
        shape = {}
        if isinstance(what, nn.Conv2d):
            shape = {
                "pads": list(what.padding) * 2,
                "strides": list(what.stride),
                "dilations": list(what.dilation),
                "group": what.groups,
            }
        bias = [] if what.bias is None else [self._constant(node, "bias", what.bias)]
        scales, whole = weight_scales(what.weight), integer_weight(what.weight)
        if not self.quantized:
            return self._float(x, self._constant(node, "weight", what.weight), bias, conv, shape)
        source = inputs(node)[0]
        assert isinstance(source, fx.Node)
        quantizer = of(self.net, source)
        if quantizer.ranges == "static":
            numbers = [
                self._constant(node, "weight", whole),
                self._constant(node, "scale", scales),
                self._constant(node, "zero", torch.zeros_like(scales, dtype=torch.int8)),
            ]
            weight = self._add("DequantizeLinear", numbers, axis=0)
            if what.bias is not None:
                step = scales * quantizer.numbers()[0]
                biases = whole_bias(what.bias.detach(), step).to(torch.int32)
                bias = [
                    self._add(
                        "DequantizeLinear",
                        [self._constant(node, "bias", biases), self._constant(node, "step", step)],
                        axis=0,
                    )
                ]
            return self._float(x, weight, bias, conv, shape)
        return self._dynamic(
            node, x, whole if conv else whole.T, scales, bias, shape, quantizer.levels
        )

    def _float(
        self, x: str, weight: str, bias: list[str], conv: bool, shape: Mapping[str, object]
    ) -> str:
        if conv:
            return self._add("Conv", [x, weight, *bias], **shape)
        return self._add("Gemm", [x, weight, *bias], transB=1)

    def _dynamic(
        self,
        node: fx.Node,
        x: str,
        whole: Tensor,
        scales: Tensor,
        bias: list[str],
        shape: dict[str, Any],
        levels: int,
    ) -> str:
        """Quantize by the tensor's own range, multiply in integers, scale back."""
        zero, q = self._value("zero", 0.0), f"d{len(self.nodes)}"
        axes = {"keepdims": 0}
        low = self._add("Min", [self._add("ReduceMin", [x], **axes), zero])
        high = self._add("Max", [self._add("ReduceMax", [x], **axes), zero])
        step = self._add(
            "Div", [self._add("Sub", [high, low]), self._value("levels", float(levels))]
        )
        empty = self._add("Equal", [step, zero])
        step = self._add("Where", [empty, self._value("one", 1.0), step])
        middle = self._add("Round", [self._add("Div", [self._add("Neg", [low]), step])])
        middle = self._add("Cast", [middle], to=self.onnx.TensorProto.UINT8)
        q = self._add("QuantizeLinear", [x, step, middle])
        weight = self._constant(node, "weight", whole)
        total = self._add("ConvInteger" if shape else "MatMulInteger", [q, weight, middle], **shape)
        per_channel = scales.view(1, -1, 1, 1) if shape else scales
        total = self._add("Cast", [total], to=self.onnx.TensorProto.FLOAT)
        total = self._add(
            "Mul", [total, self._add("Mul", [step, self._constant(node, "scale", per_channel)])]
        )
        if not bias:
            return total
        what = of(self.net, node)
        bias = [self._constant(node, "bias", what.bias.view(1, -1, 1, 1) if shape else what.bias)]
        return self._add("Add", [total, *bias])

    def _add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [name], **attributes))
        return name

    def _constant(self, node: fx.Node, name: str, value: Any) -> str:
        array = (
            value.detach().cpu().numpy()
            if isinstance(value, Tensor)
            else np.asarray(value, dtype=np.int64)
        )
        full = f"{node.name}.{name}"
        self.constants[full] = self.onnx.numpy_helper.from_array(
            np.ascontiguousarray(array).reshape(array.shape), full
        )
        return full

    def _value(self, name: str, value: float) -> str:
        self.constants[name] = self.onnx.numpy_helper.from_array(
            np.array(value, dtype=np.float32), name
        )
        return name


def _pair(value: Any) -> list[int]:
    return [int(value)] * 2 if isinstance(value, int) else [int(v) for v in value]
