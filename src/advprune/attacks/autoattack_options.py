"""Refuse what AutoAttack's options cannot mean."""

from collections.abc import Sequence
from typing import Literal, get_args

import pyautoattack
import torch
from torch import Tensor

from advprune.attacks.fast.engine import PARTS
from advprune.attacks.fast.network import PRECISIONS
from advprune.errors import UserError

VERSIONS = ("standard", "plus", "rand", "custom")
Part = Literal["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]
ATTACKS: tuple[str, ...] = get_args(Part)
#: The DLR losses use the third and the fourth logit.
LEAST_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}


def check_options(version: str, attacks: Sequence[str] | None, x: Tensor) -> None:
    """Refuse unknown versions and parts, parts without ``custom``, and images not in float32."""
    if version not in VERSIONS:
        raise UserError(f"autoattack: version={version!r} is not one of {', '.join(VERSIONS)}")
    if (version == "custom") != bool(attacks):
        raise UserError(
            f"autoattack: version={version} with attacks={attacks}; "
            "the list goes with version=custom and only with it"
        )
    unknown = [name for name in attacks or [] if name not in ATTACKS]
    if unknown:
        raise UserError(f"autoattack: {', '.join(unknown)} is not one of {', '.join(ATTACKS)}")
    if x.dtype != torch.float32:
        raise UserError(
            f"autoattack takes float32 images, not {x.dtype}; "
            "convert model and images with .float()"
        )


def check_engine(
    engine: str | None,
    precision: str | None,
    version: str,
    attacks: Sequence[str] | None,
    audit: int | None,
) -> None:
    """Refuse what the chosen engine has no option or no part for."""
    if engine not in (None, "fast"):
        raise UserError(f"autoattack: engine={engine!r} is not fast, or null for pyautoattack")
    if engine is None and precision is not None:
        raise UserError(
            f"autoattack: precision={precision} is an option of engine=fast; pyautoattack has none"
        )
    if engine is None and audit is not None:
        raise UserError(
            f"autoattack: audit={audit} is an option of engine=fast; without it every image goes "
            "through pyautoattack"
        )
    if precision not in (None, *PRECISIONS):
        raise UserError(
            f"autoattack: precision={precision!r} is not one of {', '.join(PRECISIONS)}, or null"
        )
    missing = [name for name in attacks or [] if name not in PARTS]
    if engine == "fast" and (missing or version in ("plus", "rand")):
        raise UserError(
            f"autoattack: engine=fast has no {', '.join(missing) or f'version={version}'}; it has "
            f"standard, and custom with {', '.join(PARTS)}; leave engine=null for the rest"
        )


def check_classes(package: pyautoattack.AutoAttack, parts: list[str], classes: int) -> None:
    """Refuse too few classes, and target no more wrong classes than there are."""
    least = max(LEAST_CLASSES.get(part, 2) for part in parts)
    if classes < least:
        raise UserError(
            f"autoattack with {', '.join(parts)} needs at least {least} classes, the model has "
            f"{classes}; use attack.version=custom attack.attacks=[apgd-ce,fab-t,square]"
        )
    for targeted in (package.apgd_targeted, package.fab):
        targeted.n_target_classes = min(targeted.n_target_classes, classes - 1)
