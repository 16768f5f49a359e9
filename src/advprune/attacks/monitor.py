"""Follow an attack of several parts while it runs, for a display of how far it is."""

from torch import Tensor


class AttackMonitor:
    """Hear from an attack how far it is; this one does nothing with it."""

    def advance_part(self, part: str, share: float) -> None:
        """Hear which share of its work a part has done, in [0, 1] and roughly."""

    def finish_part(self, part: str, right: Tensor) -> None:
        """Hear after a part which images are still right, (N,) bool."""
