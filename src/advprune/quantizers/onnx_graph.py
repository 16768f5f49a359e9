"""Write a fake-quantized network as an ONNX graph, which onnxruntime runs in integers.

Static: quantize and dequantize nodes around each operator, which onnxruntime fuses into its integer
kernels. Dynamic: ``DynamicQuantizeLinear`` with ``ConvInteger`` or ``MatMulInteger``.
"""

import operator
from collections.abc import Mapping
from types import ModuleType
from typing import Any

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
from advprune.quantizers.onnx_builder import OnnxBuilder
from advprune.quantizers.tracing import inputs, of, standardises


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


class _Writer(OnnxBuilder):
    def __init__(self, onnx: ModuleType, net: fx.GraphModule, quantized: bool) -> None:
        super().__init__(onnx)
        self.net, self.quantized = net, quantized
        self.names: dict[fx.Node, str] = {}

    def write(self) -> bytes:
        for node in self.net.graph.nodes:
            if node.op == "placeholder":
                self.names[node] = "x"
            elif node.op == "output":
                return self.serialized(self.names[inputs(node)[0]])
            else:
                self.names[node] = self._emit(node, of(self.net, node))
        raise AssertionError("a traced network has an output")

    def _emit(self, node: fx.Node, what: object) -> str:
        operands = [self.names[a] for a in inputs(node) if isinstance(a, fx.Node)]
        if isinstance(what, ActivationQuant):
            return self._quantizer(node, what, operands[0])
        if isinstance(what, nn.Conv2d | nn.Linear):
            return self._weighted(node, what, operands[0])
        if isinstance(what, nn.Dropout | nn.Identity):
            return operands[0]
        if isinstance(what, nn.Module) and standardises(what):
            centred = self.add(
                "Sub", [operands[0], self.constant(node, "mean", what.get_buffer("mean")[None])]
            )
            return self.add(
                "Div", [centred, self.constant(node, "std", what.get_buffer("std")[None])]
            )
        if isinstance(what, nn.BatchNorm2d | nn.BatchNorm1d):
            numbers = [what.weight, what.bias, what.running_mean, what.running_var]
            stored = [self.constant(node, str(i), number) for i, number in enumerate(numbers)]
            return self.add("BatchNormalization", [operands[0], *stored], epsilon=what.eps)
        return self._plain(node, what, operands)

    def _plain(self, node: fx.Node, what: object, operands: list[str]) -> str:
        """Write an operator that has no weights."""
        if isinstance(what, nn.ReLU) or what is F.relu:
            return self.add("Relu", operands)
        if isinstance(what, nn.ReLU6):
            return self.add("Clip", [*operands, self.value("zero", 0.0), self.value("six", 6.0)])
        if what in (operator.add, operator.iadd, torch.add) and len(operands) == 2:
            return self.add("Add", operands)
        if what is torch.cat:
            joined = [self.names[part] for part in inputs(node)[0]]
            return self.add("Concat", joined, axis=inputs(node)[1])
        if isinstance(what, nn.Flatten) or what is torch.flatten:
            return self.add("Flatten", operands, axis=1)
        if isinstance(what, nn.AdaptiveAvgPool2d) and what.output_size in (1, (1, 1)):
            return self.add("GlobalAveragePool", operands)
        if what is F.adaptive_avg_pool2d and inputs(node)[1] in (1, (1, 1)):
            return self.add("GlobalAveragePool", operands)
        if isinstance(what, nn.MaxPool2d | nn.AvgPool2d):
            kind = "MaxPool" if isinstance(what, nn.MaxPool2d) else "AveragePool"
            sizes = {"kernel_shape": _pair(what.kernel_size), "strides": _pair(what.stride)}
            return self.add(
                kind, operands, pads=_pair(what.padding) * 2, ceil_mode=int(what.ceil_mode), **sizes
            )
        if what is F.pad:
            pads = list(inputs(node)[1])
            before, after = pads[::2][::-1], pads[1::2][::-1]
            none = [0] * (4 - len(before))
            return self.add(
                "Pad", [*operands, self.constant(node, "pads", [*none, *before, *none, *after])]
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
                cuts = [self.constant(node, f"s{i}", number) for i, number in enumerate(numbers)]
                return self.add("Slice", [*operands, *cuts])
        raise UserError(
            f"quantizer.runs=int8: layer {node.target} has no int8 counterpart; give "
            "quantizer.runs=fake_quant"
        )

    def _quantizer(self, node: fx.Node, what: ActivationQuant, x: str) -> str:
        if not self.quantized or what.ranges == "dynamic":
            return x
        scale, zero = what.numbers()
        numbers = [
            self.constant(node, "scale", scale),
            self.constant(node, "zero", zero.to(torch.uint8)),
        ]
        return self.add("DequantizeLinear", [self.add("QuantizeLinear", [x, *numbers]), *numbers])

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
        bias = [] if what.bias is None else [self.constant(node, "bias", what.bias)]
        scales, whole = weight_scales(what.weight), integer_weight(what.weight)
        if not self.quantized:
            return self._float(x, self.constant(node, "weight", what.weight), bias, conv, shape)
        source = inputs(node)[0]
        assert isinstance(source, fx.Node)
        quantizer = of(self.net, source)
        if quantizer.ranges == "static":
            numbers = [
                self.constant(node, "weight", whole),
                self.constant(node, "scale", scales),
                self.constant(node, "zero", torch.zeros_like(scales, dtype=torch.int8)),
            ]
            weight = self.add("DequantizeLinear", numbers, axis=0)
            if what.bias is not None:
                step = scales * quantizer.numbers()[0]
                biases = whole_bias(what.bias.detach(), step).to(torch.int32)
                bias = [
                    self.add(
                        "DequantizeLinear",
                        [self.constant(node, "bias", biases), self.constant(node, "step", step)],
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
            return self.add("Conv", [x, weight, *bias], **shape)
        return self.add("Gemm", [x, weight, *bias], transB=1)

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
        zero, q = self.value("zero", 0.0), f"d{len(self.nodes)}"
        axes = {"keepdims": 0}
        low = self.add("Min", [self.add("ReduceMin", [x], **axes), zero])
        high = self.add("Max", [self.add("ReduceMax", [x], **axes), zero])
        step = self.add("Div", [self.add("Sub", [high, low]), self.value("levels", float(levels))])
        empty = self.add("Equal", [step, zero])
        step = self.add("Where", [empty, self.value("one", 1.0), step])
        middle = self.add("Round", [self.add("Div", [self.add("Neg", [low]), step])])
        middle = self.add("Cast", [middle], to=self.onnx.TensorProto.UINT8)
        q = self.add("QuantizeLinear", [x, step, middle])
        weight = self.constant(node, "weight", whole)
        total = self.add("ConvInteger" if shape else "MatMulInteger", [q, weight, middle], **shape)
        per_channel = scales.view(1, -1, 1, 1) if shape else scales
        total = self.add("Cast", [total], to=self.onnx.TensorProto.FLOAT)
        total = self.add(
            "Mul", [total, self.add("Mul", [step, self.constant(node, "scale", per_channel)])]
        )
        if not bias:
            return total
        what = of(self.net, node)
        bias = [self.constant(node, "bias", what.bias.view(1, -1, 1, 1) if shape else what.bias)]
        return self.add("Add", [total, *bias])


def _pair(value: Any) -> list[int]:
    return [int(value)] * 2 if isinstance(value, int) else [int(v) for v in value]
