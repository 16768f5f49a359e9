"""One seed for each step, so that what a step draws depends on nothing that ran before it.

A run that was killed and goes on, or a batch that another process evaluates, draws the same
numbers.
"""

import hashlib

import torch


def seed_step(seed: int, purpose: str, index: int) -> None:
    """Seed torch's global generators (all devices) for step ``index`` of ``purpose`` in the run with this ``seed``."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little") >> 1)
