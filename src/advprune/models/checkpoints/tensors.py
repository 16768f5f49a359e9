"""A checkpoint's tensors by names without wrappers, and which of them are no plain numbers."""

from collections.abc import Callable

import torch
from torch import Tensor

from advprune.errors import UserError
from advprune.models.checkpoints.name_lists import some

#: Wrappers that add a segment to the names: DataParallel and DDP, torch.compile, FSDP, activation
#: checkpointing.
WRAPPERS = (
    *("module", "_orig_mod", "_fsdp_wrapped_module"),
    *("_checkpoint_wrapped_module", "_forward_module", "_ddp_module"),
)


def unwrapped(weights: dict[str, Tensor], kept: set[str]) -> dict[str, Tensor]:
    """Remove the segments of ``WRAPPERS`` from names, wherever they occur.

    Args:
        weights: the file's tensors by name.
        kept: the network's segments, which are never taken off.

    Raises:
        UserError: if two names become one and their tensors differ.
    """
    renamed: dict[str, Tensor] = {}
    first: dict[str, str] = {}
    added = set(WRAPPERS) - kept
    for name, tensor in weights.items():
        short = ".".join(part for part in name.split(".") if part not in added) or name
        if short in renamed and not same(renamed[short], tensor):
            raise UserError(
                f"has {first[short]} and {name} for one layer, and they differ: save one of them "
                "alone"
            )
        renamed.setdefault(short, tensor)
        first.setdefault(short, name)
    return renamed


def same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors hold the same numbers."""
    return a is b or (
        a.shape == b.shape and a.dtype == b.dtype and a.layout == b.layout and _equal(a, b)
    )


def _equal(a: Tensor, b: Tensor) -> bool:
    return not a.is_meta and not b.is_meta and a.layout == torch.strided and torch.equal(a, b)


def strided(tensor: Tensor, name: str) -> Tensor:
    """Return the tensor as a dense, strided one.

    Raises:
        UserError: if it is sparse, quantized, without numbers, or larger than what is stored of it.
    """
    refuse_exotic({name: tensor})
    return tensor.to_dense() if tensor.layout != torch.strided else tensor


def refuse_exotic(weights: dict[str, Tensor]) -> None:
    """Check that all tensors are plain numbers.

    Raises:
        UserError: naming the kind and the first of them.
    """
    kinds: list[tuple[str, str, Callable[[Tensor], bool]]] = [
        ("tensors without numbers", "save it after the weights were loaded", lambda t: t.is_meta),
        ("quantized tensors", "give the float weights it was made from", lambda t: t.is_quantized),
        ("complex numbers", "give a network of real ones", torch.is_complex),
        ("tensors larger than what is stored of them", "save tensor.contiguous()", _expanded),
    ]
    for kind, cure, is_kind in kinds:
        names = [name for name, tensor in weights.items() if is_kind(tensor)]
        if names:
            raise UserError(f"holds {kind} ({some(names, 2)}): {cure}")


def _expanded(tensor: Tensor) -> bool:
    if tensor.layout != torch.strided:
        return tensor.numel() > 100_000_000
    return (
        tensor.numel() > 100_000
        and tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size()
    )
