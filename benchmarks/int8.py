"""Compare a pruned ResNet-20 in int8 with the dense float network: bytes and milliseconds.

    python -m benchmarks int8

Needs the extra ``quant``. The network is a fresh one: bytes and times do not depend on the values
of weights.
"""

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import save

from advprune.models.cifar_resnet import CifarResNet
from advprune.pruners import scopes
from advprune.pruners.magnitude import magnitude
from advprune.quantizers.calibrate import calibrate
from advprune.quantizers.int8 import Int8, session
from advprune.quantizers.onnx_graph import serialize
from advprune.quantizers.prepare import quantize
from advprune.surgery.subnet import apply


def milliseconds(call: Callable[[], object], *, seconds: float) -> float:
    """Return the median of calls repeated for some seconds."""
    call()
    taken, end = [], time.perf_counter() + seconds
    while len(taken) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken)


def contestants(
    ratio: float, threads: int
) -> dict[str, tuple[Callable[[torch.Tensor], object], int]]:
    """Return each network's call and the bytes of its file; the first is the one compared with."""
    torch.manual_seed(0)
    pixels = {"image_size": 32, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    net = CifarResNet(num_classes=10, in_channels=3, depth=20, **pixels).eval()
    dense = serialize(quantize(net), quantized=False)
    dense_session = session(dense, threads=threads)
    networks: dict[str, tuple[Callable[[torch.Tensor], object], int]] = {
        "dense float, torch": (torch.no_grad()(net), len(save(net.state_dict()))),
        "dense float, onnxruntime": (
            lambda batch: dense_session.run(None, {"x": batch.numpy()}),
            len(dense),
        ),
    }
    pruned = copy.deepcopy(net)
    apply(pruned, scopes.spend(magnitude(pruned, []), ratio, scope="layer"))
    for ranges in ("static", "dynamic"):
        fake = quantize(pruned, ranges=ranges)
        calibrate(fake, [torch.rand(128, 3, 32, 32)])
        name = f"pruned int8 {ranges}, onnxruntime"
        networks[name] = torch.no_grad()(Int8(fake.eval())), len(serialize(fake))
    return networks


def run(ratio: float = 0.9, threads: int = 1, seconds: float = 2.0) -> list[dict[str, Any]]:
    """Return one row for each network, compared with the dense one in torch."""
    torch.set_num_threads(threads)
    x, measured = torch.rand(128, 3, 32, 32), {}
    for name, (call, size) in contestants(ratio, threads).items():
        times = [
            milliseconds(lambda call=call, n=n: call(x[:n]), seconds=seconds) for n in (1, 128)
        ]
        measured[name] = (size, *times)
    first, *others = measured
    size, single, batch = measured[first]
    against = f"{first}: {size} bytes, {single:.2f} and {batch:.1f} ms"
    return [
        {
            "what": f"ResNet-20, {name}: bytes, time at batch 1, at batch 128",
            "against": against,
            "bar": "none",
            "measured": ", ".join(
                f"{m / d:.2f}x" for m, d in zip(measured[name], measured[first], strict=True)
            ),
        }
        for name in others
    ]


if __name__ == "__main__":
    for row in run():
        print(f"{row['what']:80} {row['measured']:>20}   against {row['against']}")
