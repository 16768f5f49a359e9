"""Call Hydra's ``instantiate``, and raise our own sentence instead of a chain of wrapped errors."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from advprune.errors import UserError


def build(node: dict[str, Any], **extra: Any) -> Any:
    """Make what a node's ``_target_`` names.

    Args:
        node: of the configuration.
        **extra: further arguments, which need not be plain values.

    Raises:
        UserError: the one that the target raised, without Hydra's wrapping.
    """
    try:
        return instantiate(node, _convert_="all", **extra)  # lists and dicts, not OmegaConf's
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        raise
