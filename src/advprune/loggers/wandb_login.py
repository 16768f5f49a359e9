"""Whether W&B can be reached and would let us in, found out without a prompt and without a long wait."""

import netrc
import os
import threading
import urllib.error
import urllib.request
from pathlib import Path

#: Seconds to wait for an answer of the host; any answer will do.
PATIENCE = 4.0


def host() -> str:
    """The address of the W&B server."""
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")


def logged_in() -> bool:
    """Whether W&B would find an API key: in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(path).authenticators(host().split("//")[-1]) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def reachable() -> bool:
    """Whether the host answers; a thread asks, for looking up a name cannot be told to hurry."""
    answered = threading.Event()
    threading.Thread(target=_ask, args=(answered,), daemon=True).start()
    return answered.wait(PATIENCE)


def _ask(answered: threading.Event) -> None:
    try:
        with urllib.request.urlopen(host(), timeout=PATIENCE):  # as wandb itself, through a proxy if one is set
            answered.set()
    except urllib.error.HTTPError:
        answered.set()  # "forbidden" is an answer, too
    except (OSError, ValueError):
        return


def mode(wanted: str | None) -> tuple[str, str | None]:
    """``online``, ``offline`` or ``disabled``, and a sentence if it is not what was wanted.

    Args:
        wanted: the option ``logger.mode``; None takes ``WANDB_MODE``, or else online if there is an API key.
    """
    asked = wanted or os.environ.get("WANDB_MODE") or ("online" if logged_in() else "offline")
    if asked != "online":
        return asked, None
    if not logged_in():
        return "offline", "W&B has no API key here (`wandb login`, or WANDB_API_KEY)"
    return ("online", None) if reachable() else ("offline", f"W&B at {host()} does not answer")
