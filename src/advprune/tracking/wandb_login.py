"""Find out, without a prompt or a long wait, whether W&B can be reached and would accept us."""

import netrc
import os
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

#: Seconds to wait for an answer of the host; any answer will do.
PATIENCE = 4.0
#: W&B's own cloud, under the name it had and the one it has; `wandb` takes a key for the one as a
#: key for the other.
CLOUD = ("api.wandb.ai", "api.forge.coreweave.com")


def logged_in(url: str) -> bool:
    """Return whether the environment or the netrc file has credentials for the server ``url``."""
    if any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return True
    host = urlsplit(url).netloc
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        credentials = netrc.netrc(path)
    except (OSError, netrc.NetrcParseError):
        return False
    return any(
        credentials.authenticators(name) for name in {host, *(CLOUD if host in CLOUD else ())}
    )


def reachable(url: str) -> bool:
    """Return whether the host answers within ``PATIENCE`` seconds.

    A thread asks, because looking up a name cannot be told to hurry.
    """
    answered = threading.Event()
    threading.Thread(target=_ask, args=(url, answered), daemon=True).start()
    return answered.wait(PATIENCE)


def _ask(url: str, answered: threading.Event) -> None:
    try:
        # as wandb itself, through a proxy if one is set
        with urllib.request.urlopen(url, timeout=PATIENCE):
            answered.set()
    except urllib.error.HTTPError:
        answered.set()  # "forbidden" is an answer, too
    except (OSError, ValueError):
        return


def mode(wanted: str | None, url: str) -> tuple[str, str | None]:
    """Return ``online``, ``offline`` or ``disabled``, and why if it is not what was asked for.

    Args:
        wanted: the option ``logger.mode``; None takes ``WANDB_MODE``, or else online if there is an
            API key.
        url: of the server.
    """
    chosen = wanted or os.environ.get("WANDB_MODE") or ("online" if logged_in(url) else "offline")
    if chosen != "online":
        return chosen, None
    if not logged_in(url):
        return "offline", "W&B has no API key here (`wandb login`, or WANDB_API_KEY)"
    return ("online", None) if reachable(url) else ("offline", f"W&B at {url} does not answer")
