"""Find the mapping in a file that is the network's weights, and bring it into plain form."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from advprune.errors import UserError
from advprune.models.checkpoints.layouts.known_layouts import (
    MARKS,
    fitting_layouts,
    layout_named,
)
from advprune.models.checkpoints.layouts.layout import Layout
from advprune.models.checkpoints.name_lists import some
from advprune.models.checkpoints.names import Match, match
from advprune.models.checkpoints.nests import NESTS, Nest, nests
from advprune.models.checkpoints.parametrizations import Plain
from advprune.models.checkpoints.reader import payload
from advprune.models.checkpoints.tensors import same, unwrapped


@dataclass(frozen=True)
class Declared:
    """What the user says of a file of a pruned network.

    Args:
        layout: how it was saved, a name of ``known_layouts.LAYOUTS``; None: plain weights.
        ratio: the share of weights that was removed, in [0, 1); None if it was not said.
    """

    layout: str | None = None
    ratio: float | None = None


def candidates(path: Path) -> list[Nest]:
    """Return all mappings of a file that may be a network's weights, the most usual first.

    Raises:
        UserError: if the file cannot be read, or holds none.
    """
    content = payload(path)
    mappings = nests(content)
    if mappings:
        return mappings
    names = (
        some([str(name) for name in content], 5)
        if isinstance(content, dict)
        else f"a {type(content).__name__}"
    )
    raise UserError(
        f"{path} holds {names or 'nothing'} and no state_dict, neither by itself nor under "
        f"{', '.join(NESTS[1:5])} or another name: save model.state_dict() alone with "
        "safetensors.torch.save_file"
    )


def plain_form(nest: Nest, network: dict[str, Tensor], declared: Declared) -> Plain:
    """Return a mapping's weights by plain names: out of wrappers, of their layout, of masks.

    Args:
        nest: the mapping.
        network: the state dict that it is meant for; empty where there is none.
        declared: what the user says of the file.

    Raises:
        UserError: if it is in another layout than was said, or a form cannot be undone.
    """
    segments = {part for name in network for part in name.split(".")}
    file = unwrapped(nest.weights, segments)
    if declared.layout is not None:
        layout = layout_named(declared.layout)
        if not layout.fits(file, MARKS):
            raise UserError(_other_layout(declared.layout, layout, file))
        file = layout.read(file, network, declared.ratio)
    elif network:
        _refuse_marks(file, segments)
    return Plain(file, nest.masks)


def _other_layout(name: str, layout: Layout, file: dict[str, Tensor]) -> str:
    """Return the error for a file that is not in the layout that was asked for."""
    lacking = sorted(layout.has - {n.rpartition(".")[2] for n in file})
    why = f"no {lacking[0]} beside its weights" if lacking else _shown(_marks(file, set()))
    return f"has {why}, so it is not in layout={name} ({layout.owner}): {_fitting(file)}"


def _fitting(file: dict[str, Tensor]) -> str:
    names = fitting_layouts(file)
    return f"layout={' or '.join(names)} fits it" if names else "no known layout fits it"


def _refuse_marks(file: dict[str, Tensor], segments: set[str]) -> None:
    """Refuse weights that are not yet those of the forward pass."""
    marks = _marks(file, segments)
    if marks:
        raise UserError(
            f"keeps {_shown(marks)}, so its weights are not yet those that the network computes "
            f"with: say how it was saved; {_fitting(file)}"
        )


def _marks(file: dict[str, Tensor], segments: set[str]) -> list[str]:
    return [n for n in file if "." in n and n.rpartition(".")[2] in MARKS - segments]


def _shown(marks: list[str]) -> str:
    return f"{marks[0].rpartition('.')[2]} beside its weights ({some(marks, 2)})"


def chosen(
    nests: list[Nest], network: dict[str, Tensor], path: Path, declared: Declared
) -> tuple[Nest, Plain, Match, str]:
    """Return the mapping that fits, its content, and which others would fit too.

    Where none fits it is the nearest.

    Args:
        nests: the mappings of the file.
        network: the state dict that the weights are meant for.
        path: of the file, for errors.
        declared: what the user says of the file.

    Raises:
        UserError: if none can be read, or one cannot tell which is meant.
    """
    tried: list[tuple[Nest, Plain, Match]] = []
    errors: list[UserError] = []
    for nest in nests:
        try:
            plain = plain_form(nest, network, declared)
        except UserError as error:
            errors.append(error)
            continue
        tried.append((nest, plain, match(network, plain.weights)))
    fitting = [each for each in tried if each[2].fits]
    if not fitting:
        if errors:
            raise UserError(f"{path} {errors[0]}") from None
        nearest = min(tried, key=lambda each: each[2].distance)
        return *nearest, ""
    best = fitting[0]
    others = [n.name or "the top" for n, _, fit in fitting[1:] if not _alike(fit, best[2])]
    equals = [
        nest
        for nest, _, fit in fitting[1:]
        if nest.rank == best[0].rank and not _alike(fit, best[2])
    ]
    if equals and not best[0].known:
        raise UserError(
            f"{path} holds weights that fit under {best[0].name} and "
            f"{some([n.name for n in equals], 3)}: save those that are meant alone"
        )
    words = f", and not those under {some(others, 3)}, which would fit too" if others else ""
    return *best, words


def _alike(a: Match, b: Match) -> bool:
    return all(
        same(a.weights[name], b.weights[name]) for name in a.weights.keys() & b.weights.keys()
    )
