"""The door: every option is checked before anything is loaded or trained: a typo costs a second and not a night.

A configuration node with a ``_target_`` is held against the signature of what it names: unknown keys, missing keys,
and values of another type than the annotation says (by pydantic, strictly) are each one sentence.
"""

import difflib
import inspect
import typing
from typing import Any

from hydra.utils import get_object
from pydantic import TypeAdapter, ValidationError

from advprune.errors import UserError
from advprune.keys import canonical
from advprune.stages import world
from advprune.stages.plan import of_phase

RESERVED = frozenset({"_target_", "_partial_", "_recursive_", "_convert_", "_args_"})
#: Keys that the frame itself reads and does not pass on, by group.
FRAME = {
    "attack": frozenset({"images", "batch_size", "eps", "perturbation", "content_id"}),
    "objective": frozenset({"select", "keep", "phases"}),
    "quantizer": frozenset({"images", "epochs", "learning_rate", "runs"}),
    "dataset": frozenset({"num_classes", "channels", "image_size", "mean", "std", "eps", "attack_steps", "epochs",
                          "batch_size", "learning_rate", "content", "content_id", "train_id", "test_id", "extra_id",
                          "files", "verify"}),
}  # fmt: skip
#: Arguments that the frame gives; an option need not.
GIVEN = frozenset({"progress", "num_classes", "in_channels", "image_size", "mean", "std",
                   "channels", "seed", "trail", "verdicts", "positions", "work", "facts", "val_images", "repeats",
                   "batch_size", "name", "eligible", "source", "sites"})  # fmt: skip


def check_numbers(options: dict[str, Any]) -> None:
    """The rules that need no code to be loaded.

    Raises:
        UserError: on a ratio, an image count or a budget out of range.
    """
    ratio = options.get("ratio")
    if ratio is not None and not 0 <= ratio < 1:
        hint = f"; for {ratio:g} % write ratio={ratio / 100:g}" if 1 < ratio < 100 else ""
        raise UserError(f"ratio={ratio:g} is not possible: ratio is the share of weights removed, in [0, 1){hint}")
    compression = options.get("compression")
    if compression is not None and not compression >= 1:
        raise UserError(f"compression={compression:g} is not possible: it is original : remaining, at least 1")
    if "ratio" in options and ratio is None and compression is None:
        raise UserError("ratio=null leaves nothing to prune to: give ratio, the share removed, or compression")
    images = options["attack"].get("images")
    if images is not None and (not isinstance(images, int) or isinstance(images, bool) or images < 1):
        raise UserError(
            f"attack.images={images} is not possible: give a number of test images from 1 up, or null for all"
        )
    eps, own = options["attack"].get("eps"), options["attack"].get("perturbation")
    if eps is not None and own is not None:
        raise UserError(f"attack.eps={eps} is not looked at: this attack has a perturbation set of its own ({own})")
    if "inner" in options["attack"] and "source" in options["attack"]:
        raise UserError(f"attack.source={options['attack']['source']} is not an option; write source=… without attack.")
    unread = [name for name in ("source", "source_seed", "source_model") if options.get(name) is not None]
    if unread and "inner" not in options["attack"]:
        raise UserError(f"{unread[0]} says whose examples attack=transfer uses; write attack=transfer, or leave it out")
    for phase in ("training", "search", "finetune"):
        recipe = options[phase]
        for name, least in (("epochs", 1), ("batch_size", 1), ("learning_rate", 0)):
            if recipe[name] < least:
                raise UserError(f"{phase}.{name}={recipe[name]} is not possible: it must be at least {least}")
    world.check(options.get("trainer") or {})
    _check_deliveries(options)
    _check_quantizer(options.get("quantizer") or {})
    select = options["select"]
    if select["keep"] not in ("best", "last"):
        raise UserError(f"select.keep={select['keep']} is not known: give best or last")


def _check_deliveries(options: dict[str, Any]) -> None:
    if options.get("export") not in (None, "safetensors", "onnx"):
        raise UserError(f"export={options['export']} is not possible: give safetensors or onnx, or null for none")


def _check_quantizer(quantizer: dict[str, Any]) -> None:
    if quantizer.get("_target_") is None:
        given = [f"quantizer.{name}={value}" for name, value in quantizer.items() if value is not None]
        if given:
            raise UserError(f"{given[0]} says how to quantize, but nothing is: give quantizer=ptq_static or another")
        return
    if quantizer["runs"] not in ("int8", "fake_quant"):
        raise UserError(f"quantizer.runs={quantizer['runs']} is not known: give fake_quant or int8")
    for name, least in (("images", 1), ("epochs", 0)):
        if not isinstance(quantizer[name], int) or quantizer[name] < least:
            raise UserError(f"quantizer.{name}={quantizer[name]} is not possible: it must be at least {least}")


def frame_free(group: str, node: dict[str, Any]) -> dict[str, Any]:
    """The node without the keys that the frame reads itself."""
    return {key: value for key, value in node.items() if key not in FRAME.get(group, frozenset())}


def check_signatures(options: dict[str, Any], groups: tuple[str, ...]) -> None:
    """Hold every ``_target_`` of these groups against its signature.

    Raises:
        UserError: naming the option, what was given and what is allowed.
    """
    for group in groups:
        if options.get(group) and options[group].get("_target_", group) is not None:
            _check_node(group, frame_free(group, options[group]))
    phases = (options.get("objective") or {}).get("phases") or {}
    if phases.keys() - {"search", "finetune"}:
        raise UserError(
            f"objective.phases has {', '.join(phases)}: only search and finetune differ from dense training"
        )
    for phase in phases:
        _check_node(f"objective.phases.{phase}", frame_free("objective", of_phase(options["objective"], phase)))


def _check_node(path: str, node: Any) -> None:
    if isinstance(node, list):
        for index, item in enumerate(node):
            _check_node(f"{path}[{index}]", item)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        _check_node(f"{path}.{key}", value)
    if "_target_" in node:
        _check_call(path, node)


def _check_call(path: str, node: dict[str, Any]) -> None:
    target = _import(path, node["_target_"])
    parameters = inspect.signature(target).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    allowed = [name for name in parameters if name not in GIVEN or name in node]
    for name in node.keys() - RESERVED - parameters.keys():
        close = difflib.get_close_matches(name, allowed, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(f"{path} has no option {name!r}{meant}; {target.__name__} takes {', '.join(allowed)}")
    for name, parameter in parameters.items():
        nouns = (
            node.get("_partial_") and parameter.kind is not parameter.KEYWORD_ONLY
        )  # (model, x, y) come with the call
        if name not in node and parameter.default is parameter.empty and name not in GIVEN and not nouns:
            raise UserError(f"{path}.{name} is missing; {target.__name__} needs it: give {path}.{name}=…")
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    for name in node.keys() - RESERVED:
        filled_in = name in GIVEN and node[name] is None  # null leaves it to the frame
        if name in hints and not filled_in and not _holds_target(node[name]):
            _check_type(f"{path}.{name}", node[name], hints[name])


def _import(path: str, dotted: str) -> Any:
    try:
        return get_object(dotted)
    except (ImportError, ValueError, AttributeError) as error:
        raise UserError(f"{path}._target_={dotted} cannot be imported: {error}") from error


def _holds_target(value: Any) -> bool:
    if isinstance(value, dict):
        return "_target_" in value or any(_holds_target(item) for item in value.values())
    return isinstance(value, list) and any(_holds_target(item) for item in value)


def _check_type(path: str, value: Any, annotation: Any) -> None:
    numeric = canonical(value) if isinstance(value, str) else value  # 8/255 is a number
    for candidate in (value, numeric):
        try:
            TypeAdapter(annotation).validate_python(candidate, strict=True)
            return
        except ValidationError:
            continue
    if typing.get_origin(annotation) is typing.Literal:
        raise UserError(
            f"{path}={value!r} is not known: give one of {', '.join(map(str, typing.get_args(annotation)))}"
        )
    wanted = str(annotation).replace("typing.", "") if typing.get_origin(annotation) else annotation.__name__
    raise UserError(f"{path}={value!r} has the wrong type: it must be {wanted}")
