"""Make a training step fast: bf16 except where it is too coarse, compilation, memory kept.

bf16 is too coarse where two nearly equal outputs are compared. The start of TRADES' attack is 0.001
from the image, and bf16 has steps of 0.004 below 1: in bf16 both are one image, the divergence has
no slope and the first attack step is lost. docs/performance.md has what that does to training.
"""

import ctypes
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn

from advprune.frozen import effective_network

Precision = Literal["fp32", "bf16"]
log = logging.getLogger(__name__)
F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
Step = Callable[Concatenate[nn.Module, P], Tensor]
#: Free bytes at the end of the heap from which on they are given back. A C int: 2 GiB are the most.
KEPT = 1 << 30
#: Of glibc's <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


class _State:
    """Hold what training asked for; an attack inside an objective has no argument for it.

    It is no ``ContextVar``, because ``torch.compile`` guards an attribute and cannot read those.
    """

    depth = 0  # of the ``full_precision`` blocks around
    mode: str | None = None  # of ``torch.compile``


@contextmanager
def full_precision(needed: bool = True) -> Iterator[None]:
    """Inside, and if ``needed``, run in fp32 a network that otherwise runs in less."""
    _State.depth += needed
    try:
        yield
    finally:
        _State.depth -= needed


def needs_full_precision() -> bool:
    """Return whether full precision is asked for."""
    return _State.depth > 0


@contextmanager
def compiling(mode: str | None) -> Iterator[None]:
    """Inside, let ``compiled`` use this mode of ``torch.compile``; None compiles nothing.

    What was compiled is forgotten at the end.

    Args:
        mode: ``default``, ``reduce-overhead`` or ``max-autotune``.
    """
    before, _State.mode = _State.mode, mode
    try:
        yield
    finally:
        _State.mode = before
        # the next phase has another network, and torch.compile gives up on too many of them
        if mode is not None:
            _compile_once.cache_clear()
            torch.compiler.reset()


def compiles() -> bool:
    """Return whether training asked for compilation."""
    return _State.mode is not None


def compiled(function: F) -> F:
    """Return ``function`` compiled as one graph, in the mode that training asked for.

    Raises:
        ValueError: outside of ``compiling``.
    """
    if _State.mode is None:
        raise ValueError("nothing is compiled here")
    return _compile_once(function, _State.mode)


@cache
def _compile_once(function: F, mode: str) -> F:
    return cast(F, torch.compile(function, mode=mode))


def accelerated(step: Step[P]) -> Step[P]:
    """Return an attack's step as one compiled graph where training asks for it, else unchanged.

    Args:
        step: from a network and images to the next images; a function of a module: it is compiled
            once, and reused for every later batch.
    """
    if not compiles():
        return step
    graph = compiled(step)

    def run_graph(model: nn.Module, /, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        # Weights that are computed once per step must not be computed inside of the graph.
        with effective_network(model), torch.no_grad():
            images = graph(model, *args, **kwargs)
        return images.clone()  # memory of a CUDA graph is written anew by its next run

    return run_graph


class Mixed(nn.Module):
    """Run ``net`` under autocast; an objective or its attack gets fp32 logits to compute with.

    Only a forward is in bf16, and not inside ``full_precision()``. Bounds read the network's
    weights and not its forward, so certificates stay fp32. bf16 has the range of fp32, so no loss
    is scaled.

    Args:
        net: pixels (N, C, H, W) float32 in [0, 1] -> logits (N, K). It stays the caller's, and
            trains in fp32.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.training = net.training

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K), float32."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=not needs_full_precision()):
            logits = self.net(x)
        return cast(Tensor, logits.float())

    @contextmanager
    def pruned(self) -> Iterator[nn.Module]:
        """Inside, use the network whose layers hold the effective weights; see ``Subnet``."""
        with effective_network(self.net) as net:
            yield net


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies in bf16; elsewhere torch converts to fp32 and back."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def warn_of_emulation(precision: Precision, device: torch.device) -> None:
    """Say that bf16 is computed by conversions, where the device does not multiply in it."""
    if precision == "bf16" and not multiplies_bf16(device):
        log.warning(
            "trainer.precision=bf16: this device does not multiply in bf16, so each product is "
            "converted and fp32 is faster; the numbers are those of bf16 all the same"
        )


def autocast(net: nn.Module, precision: Precision) -> nn.Module:
    """Return what a training step calls: ``net`` itself in fp32, else ``net`` under autocast."""
    return Mixed(net) if precision == "bf16" else net


@contextmanager
def without_kernel_trials() -> Iterator[None]:
    """Inside, let cuDNN choose kernels by its rules instead of trying them all.

    They are tried anew for each size of a batch, and one that loses its images one by one has many.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@cache
def keep_freed_memory() -> bool:
    """Keep up to ``KEPT`` free bytes in this process from now on, for its next big blocks.

    glibc hands blocks above 32 MiB back to the system as soon as they are free, and the free end of
    its heap above 64 MiB. A training step allocates and frees the same big tensors again and again,
    and each time the system clears their pages anew. Kept, they are there already.
    docs/performance.md has what it saves. Only the first call does anything.

    Returns:
        Whether the C library took the settings; others than glibc have none.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL(None)
        glibc, mallopt = library.gnu_get_libc_version, library.mallopt
    except (AttributeError, OSError):  # musl has no glibc version, and an empty mallopt or none
        return False
    del glibc
    mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT))
