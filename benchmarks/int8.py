"""A pruned ResNet-20 in int8 beside the dense float network, in one run: bytes, and milliseconds at batch 1 and 128.

    python benchmarks/int8.py [--weights resnet20.safetensors] [--ratio 0.9] [--threads 1]

Needs the extra ``quant``. Without weights the network is a fresh one: bytes and times do not depend on their values.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from safetensors.torch import save

from advprune.models import foreign
from advprune.models.cifar_resnet import CifarResNet
from advprune.pruners import scopes
from advprune.pruners.magnitude import magnitude
from advprune.quantizers.int8 import Int8, integers, session
from advprune.quantizers.onnx_graph import written
from advprune.quantizers.prepare import calibrate, quantize
from advprune.surgery.apply import apply


def milliseconds(call: Callable[[], object], *, seconds: float) -> float:
    """The median of calls repeated for some seconds."""
    call()
    taken, end = [], time.perf_counter() + seconds
    while len(taken) < 5 or time.perf_counter() < end:
        begun = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(taken)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights")
    parser.add_argument("--ratio", type=float, default=0.9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    pixels = {"image_size": 32, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    net = CifarResNet(num_classes=10, in_channels=3, depth=20, **pixels)
    if given.weights:
        foreign.load(net, given.weights)
    net.eval()
    x = torch.rand(128, 3, 32, 32)
    dense_bytes, dense = len(save(net.state_dict())), written(quantize(net), quantized=False)
    runs: dict[str, Callable[[torch.Tensor], object]] = {"dense float, torch": torch.no_grad()(net)}
    dense_session = session(dense, threads=given.threads)
    runs["dense float, onnxruntime"] = lambda batch: dense_session.run(None, {"x": batch.numpy()})
    pruned = CifarResNet(num_classes=10, in_channels=3, depth=20, **pixels).eval()
    pruned.load_state_dict(net.state_dict())
    apply(pruned, scopes.spend(magnitude(pruned, []), given.ratio, scope="layer"))
    sizes = {"dense float, torch": dense_bytes, "dense float, onnxruntime": len(dense)}
    for ranges in ("static", "dynamic"):
        fake = quantize(pruned, ranges=ranges)
        calibrate(fake, [x])
        name = f"pruned int8 {ranges}, onnxruntime"
        runs[name], sizes[name] = torch.no_grad()(Int8(fake.eval())), len(written(fake))
        print(f"{name}: weights alone as safetensors {len(save(integers(fake)))} bytes")
    print(f"{'':34}{'bytes':>10}{'batch 1':>12}{'batch 128':>12}   ms, {given.threads} thread(s), median")
    for name, run in runs.items():
        times = [milliseconds(lambda run=run, n=n: run(x[:n]), seconds=given.seconds) for n in (1, 128)]
        print(f"{name:34}{sizes[name]:>10}{times[0]:>12.2f}{times[1]:>12.1f}")


if __name__ == "__main__":
    main()
