"""Deliver what is asked for beside the row: ``sizes=true`` measures, ``export=`` writes a file."""

from pathlib import Path
from typing import Any

from torch import nn

from advprune.config.options import Options
from advprune.pipeline.model_card import card
from advprune.quantizers import int8
from advprune.report.data.row import Row
from advprune.runtime.safe_files import write_atomically
from advprune.stages import checkpoint, quantized
from advprune.store.stage import Plan
from advprune.store.store import Store
from advprune.surgery import cost, export, hub_folder, measure, structure

BATCHES = (1, 128)


def export_artifacts(
    plan: Plan, store: Store, output: Path, options: Options, row: Row
) -> dict[str, Any]:
    """Return entries for the row: sizes beside the dense parent's, and the exported file."""
    entries: dict[str, Any] = {}
    if options.export == "hub":
        entries["exported"] = str(_export_hub(plan, store, output / "hub", options, row))
    elif options.export is not None:
        entries["exported"] = _export(plan, store, output, options.export)
    if options.sizes:
        entries["sizes"] = _sizes(plan, store)
    return entries


def _export(plan: Plan, store: Store, output: Path, kind: str) -> str:
    output.mkdir(parents=True, exist_ok=True)
    for path in (output / f"model.{end}" for end in ("onnx", "onnx.data", "safetensors")):
        if path.is_symlink():  # libraries would write through it
            path.unlink()
    if plan.final.kind == "quantized":
        return str(_export_int8(plan, store, output, kind))
    net = checkpoint.load_network(plan.final, store.folder(plan.final))
    if kind == "onnx":
        path = export.onnx(net, output / "model.onnx", shape=checkpoint.image_shape(plan.final))
    else:
        path = export.safetensors(net, output / "model.safetensors")
    _copy_structure(plan, store, output)
    return str(path)


def _copy_structure(plan: Plan, store: Store, output: Path) -> None:
    """Put the network's structure beside its weights; take one of an earlier export away."""
    path = store.folder(plan.final) / structure.FILE
    if path.exists():
        write_atomically(output / structure.FILE, path.read_bytes())
    else:
        (output / structure.FILE).unlink(missing_ok=True)


def _export_hub(plan: Plan, store: Store, folder: Path, options: Options, row: Row) -> Path:
    """Export the network as a folder that ``advprune.load`` reads, with its card."""
    folder.mkdir(parents=True, exist_ok=True)
    _copy_structure(plan, store, folder)
    results = {stage.key: store.result(stage) for stage in plan.stages}
    net = checkpoint.load_network(plan.final, store.folder(plan.final))
    shape = checkpoint.image_shape(plan.final)
    return hub_folder.write(
        folder,
        net,
        network=checkpoint.network_of(plan.final).call,
        shape=shape,
        card=card(row | cost.counted(net, shape), plan, options, results),
    )


def _export_int8(plan: Plan, store: Store, output: Path, kind: str) -> Path:
    """Export a quantized network's integers: ONNX for onnxruntime, or safetensors as stored."""
    folder = store.folder(plan.final)
    if kind == "safetensors":
        path = output / "model.safetensors"
        write_atomically(path, (folder / "int8.safetensors").read_bytes())
        return path
    assert plan.final.parent is not None
    variants = quantized.load(plan.final, folder, runs="fake_quant").variants
    return int8.onnx(
        variants["fake_quant"],
        output / "model.onnx",
        shape=checkpoint.image_shape(plan.final.parent),
    )


def _sizes(plan: Plan, store: Store) -> dict[str, Any]:
    """Measure the dense parent, the final network and, where quantized, its int8 form, in turns."""
    eight_bits = plan.final.kind == "quantized"
    final = plan.final.parent if eight_bits else plan.final
    assert final is not None
    shape = checkpoint.image_shape(final)
    floats = {
        "dense": checkpoint.load_network(plan.dense, store.folder(plan.dense)),
        "final": checkpoint.load_network(final, store.folder(final)),
    }
    sizes: dict[str, Any] = {
        name: {
            "parameters": sum(p.numel() for p in model.parameters()),
            "nonzeros": cost.nonzeros(model),
            "effective_macs": cost.effective_macs(model, shape),
            "bytes": measure.file_bytes(model.state_dict()),
        }
        for name, model in floats.items()
    }
    timed: dict[str, nn.Module] = dict(floats)
    if eight_bits:
        folder = store.folder(plan.final)
        timed["int8"] = quantized.load(plan.final, folder, runs="int8")
        sizes["int8"] = {"bytes": {"dense": (folder / "int8.safetensors").stat().st_size}}
    for batch in BATCHES:
        for name, value in measure.latencies(timed, shape, batch=batch).items():
            sizes[name][f"seconds_{batch}"] = value
            sizes[name][f"images_per_second_{batch}"] = batch / value
    return sizes
