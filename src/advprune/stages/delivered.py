"""What a job delivers beside its row when asked: ``sizes=true`` measures the network, ``export=`` writes a file."""

from pathlib import Path
from typing import Any

from advprune.stages import saved
from advprune.stages.plan import Plan
from advprune.stages.store import Store
from advprune.surgery import export, measure

BATCHES = (1, 128)


def deliver(plan: Plan, store: Store, output: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Entries for the row: sizes beside the dense parent's, and the exported file."""
    net = saved.load(plan.final, store.folder(plan.final))
    shape = saved.image_shape(plan.final)
    found: dict[str, Any] = {}
    if options["export"] is not None:
        name = {"safetensors": "model.safetensors", "onnx": "model.onnx"}[options["export"]]
        output.mkdir(parents=True, exist_ok=True)
        if options["export"] == "onnx":
            export.onnx(net, output / name, shape=shape)
        else:
            export.safetensors(net, output / name)
        structure = store.folder(plan.final) / "structure.json"
        if structure.exists():
            (output / "structure.json").write_bytes(structure.read_bytes())
        found["exported"] = str(output / name)
    if options["sizes"]:
        dense = saved.load(plan.dense, store.folder(plan.dense))
        sizes: dict[str, Any] = {
            name: {
                "parameters": sum(p.numel() for p in model.parameters()), "nonzeros": measure.nonzeros(model),
                "effective_macs": measure.effective_macs(model, shape), "bytes": measure.file_bytes(model.state_dict()),
            }
            for name, model in (("dense", dense), ("final", net))
        }  # fmt: skip
        for batch in BATCHES:
            seconds = measure.latencies({"dense": dense, "final": net}, shape, batch=batch)
            for name, value in seconds.items():
                sizes[name][f"seconds_{batch}"] = value
                sizes[name][f"images_per_second_{batch}"] = batch / value
        found["sizes"] = sizes
    return found
