"""The int8 network: a fake-quantized one in onnxruntime's integer kernels (extra ``quant``).

onnxruntime and not torchao (https://github.com/pytorch/ao): its graph is written here number by
number, so both variants share their scales; it needs no compiler on the user's machine, has
convolutions with dynamic ranges, and gives one file to deploy.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from advprune.errors import UserError
from advprune.quantizers.fake_quant import ActivationQuant, integer_weight, weight_scales
from advprune.quantizers.onnx_graph import serialize

#: How far logits may be apart, of the largest: values on the edge of a step fall to either side.
ROUNDING = 0.1


def integers(net: fx.GraphModule) -> dict[str, Tensor]:
    """Return all that an int8 network stores.

    Int8 weights and scales, biases, each activation's scale and zero point.
    """
    stored: dict[str, Tensor] = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            stored[f"{name}.weight"] = integer_weight(module.weight)
            stored[f"{name}.scale"] = weight_scales(module.weight)
        elif isinstance(module, ActivationQuant) and module.ranges == "static":
            scale, zero = module.numbers()
            stored |= {f"{name}.scale": scale, f"{name}.zero": zero.to(torch.uint8)}
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            stored |= {
                f"{name}.{key}": value
                for key, value in module.state_dict().items()
                if "num_" not in key
            }
            continue
        if getattr(module, "bias", None) is not None:
            stored[f"{name}.bias"] = module.bias
    return {name: value.detach().cpu().clone().contiguous() for name, value in stored.items()}


def session(model: bytes, *, threads: int | None = None) -> Any:
    """Open a model in onnxruntime on the CPU.

    Raises:
        UserError: if onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            "quantizer.runs=int8 runs in onnxruntime, which is not installed: pip install "
            "'advprune[quant]', or give quantizer.runs=fake_quant"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3  # errors alone
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Int8(nn.Module):
    """The int8 network on the CPU, with the gradient of its fake-quantized twin.

    Args:
        fake_quant: a calibrated network of ``prepare.quantize``.

    Raises:
        UserError: if the extra is not installed.
    """

    def __init__(self, fake_quant: fx.GraphModule) -> None:
        super().__init__()
        self.fake_quant = fake_quant
        self._session = session(serialize(fake_quant))
        # A dynamic range is the tensor's in onnxruntime: images one by one have their own.
        self._alone = any(
            m.ranges == "dynamic" for m in fake_quant.modules() if isinstance(m, ActivationQuant)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K) of pixels (N, C, H, W) in [0, 1]."""
        pixels = x.detach().cpu().numpy().astype(np.float32)
        batches = np.split(pixels, len(pixels)) if self._alone and len(pixels) else [pixels]
        answers = np.concatenate([self._session.run(None, {"x": batch})[0] for batch in batches])
        logits = torch.from_numpy(answers).to(x.device, x.dtype)
        if torch.is_grad_enabled() and x.requires_grad:
            twin = self.fake_quant(x)
            return twin + (logits - twin).detach()
        return logits


def onnx(fake_quant: nn.Module, path: Path, *, shape: tuple[int, int, int]) -> Path:
    """Write the int8 network with a free batch size, and check its logits against its twin's.

    Dynamic ranges are a batch's there: one image at a time answers as it was judged.

    Args:
        path: of the file to write.
        fake_quant: a calibrated network of ``prepare.quantize``, on the CPU.
        shape: (C, H, W) of an image; pixels in [0, 1], for the normalisation is inside. ``x`` in,
            ``y`` out.

    Raises:
        UserError: if the extra is not installed, or the logits differ by more than a tenth of the
            largest: rounding moves a value by a step of its grid, a wrong operator by more.
    """
    assert isinstance(fake_quant, fx.GraphModule)
    path.write_bytes(serialize(fake_quant))
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    run = session(path.read_bytes())
    with torch.no_grad():
        wanted = fake_quant(x)
    logits = torch.cat(
        [torch.from_numpy(run.run(None, {"x": image[None].numpy()})[0]) for image in x]
    )
    error = float((logits - wanted).abs().max() / wanted.abs().max())
    if error > ROUNDING:
        raise UserError(
            f"{path} gives other logits in onnxruntime (off by {error:.1e}); it must not be used"
        )
    return path
