"""Draw the noise of randomised smoothing, and count the classes predicted under it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advprune.logits import NO_CLASS, predict

#: Noise values drawn by one call: they depend on an image's shape alone, never on the batch.
DRAW = 2**22


@dataclass
class Sampler:
    """Count the classes of noisy copies; each block of noise has a seed of its own.

    Attributes:
        net: pixels -> logits, frozen.
        x: images (N, C, H, W).
        keys: (seed of the run, position in the test set) of each image.
        sigma: standard deviation of the noise.
        forward_size: noisy images that go through the network at once.
    """

    net: nn.Module
    x: Tensor
    keys: list[tuple[int, int]]
    sigma: float
    forward_size: int

    def __post_init__(self) -> None:
        self.block = max(min(DRAW // self.x[0].numel(), 1000), 1)
        self.generator = torch.Generator(self.x.device)

    def counts(self, purpose: str, images: range | list[int], start: int, end: int) -> Tensor:
        """Count how often samples ``start`` to ``end`` of some images fall on each class.

        Args:
            purpose: what the samples are for; another purpose has other noise.
            images: indices of the images.
            start: first sample, the beginning of a block.
            end: the sample after the last.

        Returns:
            (N, K), with rows of zeros for the other images.
        """
        total: Tensor | None = None
        for noisy, owner in self._batches(purpose, images, start, end):
            logits = self.net(noisy)
            classes = logits.shape[1]
            label = predict(logits)
            valid = label != NO_CLASS  # a sample without a class is a hit for none
            flat = torch.bincount((owner * classes + label)[valid], minlength=len(self.x) * classes)
            total = flat if total is None else total + flat
        assert total is not None
        return total.view(len(self.x), -1)

    def _batches(
        self, purpose: str, images: range | list[int], start: int, end: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield noisy images, and for each the index of its image."""
        blocks = [
            (i, at, min(at + self.block, end))
            for i in images
            for at in range(start, end, self.block)
        ]
        size = min(max(self.forward_size, self.block), len(images) * (end - start))
        buffer = torch.empty(size, *self.x.shape[1:], dtype=self.x.dtype, device=self.x.device)
        owners, filled = [], 0
        for number, (image, at, until) in enumerate(blocks):
            part = buffer[filled : filled + until - at]
            name = f"{purpose}/{self.keys[image]}/{at}"
            digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
            self.generator.manual_seed(int.from_bytes(digest, "little") >> 1)
            part.normal_(0.0, self.sigma, generator=self.generator)
            part += self.x[image]
            owners.append((image, len(part)))
            filled += len(part)
            following = blocks[number + 1] if number + 1 < len(blocks) else None
            if following is None or filled + following[2] - following[1] > size:
                image_index, counts = (
                    torch.tensor(column, device=self.x.device)
                    for column in zip(*owners, strict=True)
                )
                yield buffer[:filled], image_index.repeat_interleave(counts)
                owners, filled = [], 0
