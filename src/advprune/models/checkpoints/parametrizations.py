"""Undo torch's weight wrappers: pruning masks, weight and spectral norm, parametrizations.

Each is undone exactly as its layer would in eval mode; what cannot be undone from the file alone is
refused.
"""

import re

import torch
from torch import Tensor

from advprune.errors import UserError
from advprune.models.checkpoints.name_lists import some
from advprune.models.checkpoints.tensors import strided, unwrapped

#: The number of a parameter behind its name, as Flying Bird names its masks.
NUMBERED = re.compile(r"(?<=weight)_\d+$")
PARAMETRIZED = ".parametrizations."
REMOVE = "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"


class Plain:
    """A file's weights by plain names, and what was done to get them.

    Args:
        weights: by name, without wrappers' segments.
        masks: that lie in a nest of their own.

    Attributes:
        weights: by plain name.
        notes: what was done.
        doubts: what the file cannot tell.

    Raises:
        UserError: if a form cannot be undone exactly.
    """

    def __init__(self, weights: dict[str, Tensor], masks: dict[str, Tensor]) -> None:
        self.weights = dict(weights)
        self.notes: list[str] = []
        self.doubts: list[str] = []
        self._masked: dict[str, tuple[int, int]] = {}
        for name in sorted(weights):
            if name.endswith("parametrizations.weight.original") or name.endswith(
                "parametrizations.bias.original"
            ):
                self._parametrized(name.removesuffix(".original"))
            elif name.endswith(".original0") and PARAMETRIZED in f".{name}":
                self._weight_norm(
                    name, name.removesuffix("0") + "1", _owner(name.removesuffix(".original0"))
                )
        for name in sorted(weights):
            self._old_form(name)
        for name in sorted(weights):
            self._mask_beside(name)
        self._masks_apart(masks)
        if self._masked:
            gone, of = (sum(pair[i] for pair in self._masked.values()) for i in (0, 1))
            layers = f"{len(self._masked)} layer" + ("s" if len(self._masked) > 1 else "")
            self.notes.append(
                f"applied the masks in it to {layers}, which set {gone} of {of} weights to zero"
            )

    def _old_form(self, name: str) -> None:
        """Undo ``weight_orig`` with a mask or spectral norm, and ``weight_g``, ``weight_v``."""
        for kind in ("weight", "bias"):
            base = name[: -len(f"{kind}_orig")] + kind
            if name.endswith(f"{kind}_orig") and name in self.weights:
                if f"{base}_u" in self.weights:
                    self._spectral(base, name, f"{base}_u", f"{base}_v")
                elif f"{base}_mask" in self.weights:
                    self._refuse_twice(base, name)
                    self.weights[base] = self.weights.pop(name)
            if name.endswith(f"{kind}_g") and name in self.weights:
                base = name.removesuffix("_g")
                self._weight_norm(name, f"{base}_v", base)

    def _mask_beside(self, name: str) -> None:
        """Apply ``weight_mask`` or ``mask`` that lies beside a weight."""
        if name.endswith(("_mask", ".mask")) and name in self.weights:
            base = (
                name.removesuffix("_mask")
                if name.endswith("_mask")
                else name.removesuffix("mask") + "weight"
            )
            if base in self.weights:
                self._mask(base, self.weights.pop(name), name)

    def _masks_apart(self, masks: dict[str, Tensor]) -> None:
        """Apply masks of a mapping of their own, named after layers or weights."""
        lost = []
        for name, mask in unwrapped(masks, set()).items():
            base = NUMBERED.sub("", name).removesuffix("_mask").removesuffix(".mask")
            fits = [owner for owner in (base, f"{base}.weight") if owner in self.weights]
            fits = fits or [
                owner for owner in self.weights if owner.endswith((f".{base}", f".{base}.weight"))
            ]
            if len(fits) == 1:
                self._mask(fits[0], mask, name)
            else:
                lost.append(name)
        if lost:
            raise UserError(
                f"has masks for layers that are not in it ({some(lost, 3)}): multiply the weights "
                "by their masks, and save the weights alone"
            )

    def _mask(self, base: str, mask: Tensor, name: str) -> None:
        weight = self._plain(base)
        mask = strided(mask, name)
        if mask.shape != weight.shape or not ((mask == 0) | (mask == 1)).all():
            raise UserError(
                f"has {name}, which is no mask of {base}: a mask has its shape and holds 0 and 1 "
                "alone; multiply the weights by their masks, and save the weights alone"
            )
        self.weights[base] = weight * mask.to(weight.dtype)
        self._masked[base] = int((mask == 0).sum()), mask.numel()

    def _parametrized(self, path: str) -> None:
        """Undo one parametrization that is known by its tensors: none, mask, spectral norm."""
        base, beside = (
            _owner(path),
            {n for n in self.weights if n.startswith(f"{path}.")} - {f"{path}.original"},
        )
        if beside == {f"{path}.0._u", f"{path}.0._v"}:
            self._spectral(base, f"{path}.original", f"{path}.0._u", f"{path}.0._v")
            return
        if len(beside) > 1 or (beside and not next(iter(beside)).endswith("mask")):
            raise UserError(
                f"has a parametrization of {base} that the file does not tell "
                f"({some(sorted(beside), 2)}): call {REMOVE} on each such layer, and save the "
                "weights again"
            )
        self._refuse_twice(base, f"{path}.original")
        self.weights[base] = self.weights.pop(f"{path}.original")
        for name in beside:
            self._mask(base, self.weights.pop(name), name)
        if not beside:
            doubt = (
                "the file keeps weights as they are before a parametrization, and not what it "
                f"does: they were taken as they are; if it changes them, call {REMOVE} on each "
                "such layer, and save the weights again"
            )
            self.doubts += [doubt] if doubt not in self.doubts else []

    def _weight_norm(self, length: str, direction: str, base: str) -> None:
        if direction not in self.weights:
            return
        self._refuse_twice(base, direction)
        g, v = self._plain(length), self._plain(direction)
        kept = [
            d
            for d in range(v.ndim)
            if g.ndim == v.ndim and g.shape[d] == v.shape[d] and g.shape[d] > 1
        ]
        if g.numel() > 1 and (len(kept) != 1 or g.numel() != g.shape[kept[0]]):
            raise UserError(
                f"has a weight norm of {base} that is not understood: call {REMOVE}, and save again"
            )
        # the network's first dimension, torch's default, where all lengths are one number
        dim = kept[0] if kept else (0 if g.ndim == v.ndim else -1)
        self.weights[base] = torch._weight_norm(v, g, dim) if dim >= 0 else v * (g / v.norm())
        self._drop(length, direction)
        self._note("undid the weight norm of its layers (length x direction)")

    def _spectral(self, base: str, original: str, left: str, right: str) -> None:
        self._refuse_twice(base, original)
        weight, u = self._plain(original), self._plain(left)
        v = self._plain(right) if right in self.weights else None
        flat = weight.flatten(1)
        if v is None or u.shape != flat.shape[:1] or v.shape != flat.shape[1:]:
            raise UserError(
                f"has a spectral norm of {base} that is not understood: call {REMOVE}, and save "
                "again"
            )
        self.weights[base] = weight / torch.dot(u, torch.mv(flat, v))
        self._drop(original, left, right)
        self._note("divided its layers by their spectral norm, as they do in eval mode")

    def _plain(self, name: str) -> Tensor:
        return strided(self.weights[name], name)

    def _drop(self, *names: str) -> None:
        for name in names:
            self.weights.pop(name, None)

    def _refuse_twice(self, base: str, name: str) -> None:
        if base in self.weights:
            raise UserError(f"has {base} and {name} for one layer: save one of them alone")

    def _note(self, note: str) -> None:
        self.notes += [note] if note not in self.notes else []


def _owner(path: str) -> str:
    """Return the plain name: ``a.parametrizations.weight`` -> ``a.weight``."""
    return path.replace("parametrizations.", "")
