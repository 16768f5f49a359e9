"""Export a network as safetensors, or as ONNX whose outputs are checked in onnxruntime."""

import importlib.util
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from advprune.errors import UserError
from advprune.frozen import frozen
from advprune.runtime.safe_files import write_atomically

TOLERANCE = 1e-4


def safetensors(model: nn.Module, path: Path) -> Path:
    """Write the state dict; what was pruned is zero or gone."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    write_atomically(path, save(tensors))
    return path


def check_packages() -> None:
    """Check that the packages that ONNX needs are installed.

    Raises:
        UserError: naming it, and how to install it.
    """
    missing = [
        name
        for name in ("onnx", "onnxscript", "onnxruntime")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise UserError(f"export=onnx needs {', '.join(missing)}: pip install 'advprune[onnx]'")


def onnx(model: nn.Module, path: Path, *, shape: tuple[int, int, int]) -> Path:
    """Write an ONNX file with a free batch size, and check its logits against the model's.

    Args:
        path: of the file to write.
        model: on the CPU.
        shape: (C, H, W) of an image; pixels in [0, 1], for the normalisation is inside.

    Raises:
        UserError: if a package is missing, or onnxruntime's logits differ by more than 1e-4 of the
            largest.
    """
    check_packages()
    import onnxruntime

    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    with frozen(model):
        batch = {0: torch.export.Dim("batch", min=1, max=65536)}
        program = torch.onnx.export(
            model,
            (x,),
            input_names=["pixels"],
            output_names=["logits"],
            dynamo=True,
            dynamic_shapes=(batch,),
            verbose=False,
        )
        assert program is not None
        program.save(str(path))
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for images in (x, x[:1]):
            with torch.no_grad():
                wanted = model(images)
            outputs = torch.from_numpy(session.run(None, {"pixels": images.numpy()})[0])
            error = float((outputs - wanted).abs().max() / wanted.abs().max().clamp_min(1))
            if error > TOLERANCE:
                raise UserError(
                    f"{path} gives other logits in onnxruntime (off by {error:.1e}); it must not "
                    "be used"
                )
    return path
