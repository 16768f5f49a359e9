"""Verdicts of attack.engine=fast beside pyautoattack's, image by image: python benchmarks/autoattack_agreement.py

Four networks, both norms, at radii where some images fall and some do not. ``--images 1000 --whole`` is the full test,
a GPU's work. ``--seeds`` also runs pyautoattack with another seed: how far it agrees with itself.
"""

import argparse
from typing import Any

from torch import nn

from advprune.quantizers.faces import Quantized
from advprune.quantizers.prepare import calibrate, quantize
from advprune.threat import L2, Linf, Threat
from benchmarks.autoattack import attacked, cut, images, natural, pruned, robust

#: Radii at which a network loses some of its training images, and not all.
RADII = {
    "robust": (1 / 255, 0.1),
    "natural": (1 / 255, 0.1),
    "pruned": (1 / 255, 0.1),
    "int8": (1 / 255, 0.1),
}


def int8() -> nn.Module:
    """The shared ResNet-20, fake-quantized, as the quantizer stage has it."""
    twin = natural().cpu()
    fake = quantize(twin)
    calibrate(fake, [images(64)[0].cpu()])
    device = images(1)[0].device
    return Quantized(fake, float_twin=twin, fake_quant=fake).eval().requires_grad_(False).to(device)


NETWORKS = {"robust": robust, "natural": natural, "pruned": pruned, "int8": int8}


def agreement(
    name: str, norm: str, count: int, *, share: float = 1.0, batch: int = 250, again: bool = False
) -> dict[str, Any]:
    """The share of equal verdicts, and each engine's robust accuracy.

    Args:
        name: of the network.
        norm: ``linf`` or ``l2``.
        count: images.
        share: of the steps and queries that both engines take.
        batch: images attacked at once.
        again: also pyautoattack against itself with another seed.
    """
    model, threat = NETWORKS[name](), _threat(name, norm)
    x, y = images(count)
    totals = {"agree": 0.0, "theirs": 0.0, "ours": 0.0, "clean": 0.0, "itself": 0.0}
    with cut(share):
        for start in range(0, count, batch):
            part = slice(start, start + batch)
            _, theirs, trail = attacked(model, x[part], y[part], threat, None)
            _, ours, _ = attacked(model, x[part], y[part], threat, "fast")
            other = attacked(model, x[part], y[part], threat, None, seed=1)[1] if again else theirs
            totals["agree"] += int((theirs == ours).sum())
            totals["itself"] += int((theirs == other).sum())
            totals["theirs"] += int(theirs.sum())
            totals["ours"] += int(ours.sum())
            totals["clean"] += trail["clean"] * len(ours)
    return {key: value / count for key, value in totals.items()}


def _threat(name: str, norm: str) -> Threat:
    linf, l2 = RADII[name]
    return Linf(linf) if norm == "linf" else L2(l2)


def run(count: int = 8, share: float = 0.1, again: bool = False) -> list[dict[str, Any]]:
    """One row for each network and norm."""
    rows = []
    for name in NETWORKS:
        for norm in ("linf", "l2"):
            found = agreement(name, norm, count, share=share, again=again)
            said = f"{found['agree']:.1%}; robust {found['ours']:.1%}, theirs {found['theirs']:.1%}"
            said += f"; theirs and itself {found['itself']:.1%}" if again else ""
            what = f"verdicts, {name}, {norm}, {count} images, {share:.0%} of the steps"
            rows.append({"what": what, "against": "pyautoattack", "bar": ">= 99.5 %, not 0.2 above", "measured": said})
            print(f"{what:60} {said}", flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--whole", action="store_true", help="all steps and queries")
    parser.add_argument("--seeds", action="store_true", help="pyautoattack against itself too")
    given = parser.parse_args()
    run(given.images, 1.0 if given.whole else 0.1, given.seeds)
