"""The error message for weights that do not fit: what differs, and the cure."""

from torch import Tensor, nn

from advprune.models.checkpoints.fitting import fitting
from advprune.models.checkpoints.name_lists import some
from advprune.models.checkpoints.names import Match

CHOOSE_DATASET = "choose the dataset it was trained on"


def misfit(fit: Match, theirs: dict[str, Tensor], model: nn.Module) -> str:
    """Return what differs, in brackets, and the cure.

    Args:
        fit: what was matched and what was not.
        theirs: the file's weights, in plain form.
        model: what they were to be loaded into.
    """
    complaints = [
        f"missing: {some(fit.missing, 5)}" if fit.missing else "",
        f"unexpected: {some(fit.unexpected, 5)}" if fit.unexpected else "",
        _shapes(fit),
        fit.ambiguous,
    ]
    differences = "; ".join(filter(None, complaints))
    return f"({differences}): {_cure(fit, theirs, model)}"


def _shapes(fit: Match) -> str:
    """List up to three shapes that differ."""
    if not fit.differing:
        return ""
    shown = [f"{name} is {a} and should be {b}" for name, (a, b) in list(fit.differing.items())[:3]]
    more = f" and {len(fit.differing) - 3} more" if len(fit.differing) > 3 else ""
    return "shapes: " + ", ".join(shown) + more


def _cure(fit: Match, theirs: dict[str, Tensor], model: nn.Module) -> str:
    if fit.ambiguous:
        return "a file of model.state_dict() alone is understood"
    return _of_dataset(fit, model) or _of_model(fit, theirs, model)


def _of_dataset(fit: Match, model: nn.Module) -> str | None:
    """Return the cure where only classes, channels or the image size differ."""
    layers = [
        name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    if fit.missing or fit.unexpected or not layers:
        return None
    changed = [name for name, (a, b) in fit.differing.items() if a[1:] != b[1:]]
    theirs, ours = next(iter(fit.differing.values()))
    if not changed and set(fit.differing) <= {f"{layers[-1]}.weight", f"{layers[-1]}.bias"}:
        return f"the file has {theirs[0]} classes, the dataset {ours[0]}; {CHOOSE_DATASET}"
    if set(fit.differing) == {f"{layers[0]}.weight"} and len(theirs) == 4 and theirs[0] == ours[0]:
        return f"the file is for {theirs[1]} channels, the dataset has {ours[1]}; {CHOOSE_DATASET}"
    if all(len(a) == len(b) == 2 and a[0] == b[0] for a, b in fit.differing.values()):
        return f"the file is for images of another size; {CHOOSE_DATASET}"
    return None


def _of_model(fit: Match, theirs: dict[str, Tensor], model: nn.Module) -> str:
    """Return the overrides that choose the network that fits, or what to do where none does."""
    choice = fitting(theirs, model)
    if choice is not None:
        also = "".join(f", and {demand}" for demand in choice.demands)
        return f"it fits {choice.words}{also}"
    if fit.unexpected and not fit.missing and not fit.differing:
        return (
            "the file has all that this network needs, and more, which would be left out: if that "
            f"is right, save the others alone, without {some(fit.unexpected, 3)}"
        )
    return (
        "no model of conf/model fits it; rename its tensors to those of one of them, or add its "
        "architecture, one file and one YAML (docs/add_a_model.md)"
    )
