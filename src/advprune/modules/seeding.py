"""Seed each step by itself, so that its draws depend on nothing that ran before it.

A run that was killed and goes on, or a batch that another process evaluates, draws the same
numbers.
"""

import hashlib

import torch


def seed_step(seed: int, purpose: str, index: int) -> None:
    """Seed torch's global generators, on all devices, for one step of a run.

    Args:
        seed: of the run.
        purpose: of the step, such as ``train`` or ``attack``.
        index: of the step among those of its purpose.
    """
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little") >> 1)
