"""Run a command of which it is known that it is one job, as Hydra does, but compose it once.

Hydra composes all options a first time to see whether they ask for a grid. That is a third of what
a job costs before it begins; ``hydra.mode=RUN`` among its words says that they do not.
"""

import inspect
from pathlib import Path

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.types import TaskFunction

#: The word that says so.
ONE_JOB = "hydra.mode=RUN"


def run_once(main: TaskFunction, arguments: list[str]) -> None:
    """Compose the options of one job and run it.

    Args:
        main: the script's function, by whose file ``conf/`` is found.
        arguments: words and flags, without the script.
    """
    parsed = get_args_parser().parse_args(arguments)
    task = inspect.unwrap(main)
    script = Path(inspect.getfile(task))
    folders = create_automatic_config_search_path(str(script), None, "conf")
    if parsed.config_dir is not None:
        folders.prepend(
            provider="command-line",
            path=f"file://{Path(parsed.config_dir).absolute()}",
            anchor=SearchPathQuery(provider="schema"),
        )
    hydra = Hydra.create_main_hydra2(script.stem, folders)
    try:
        hydra.run(parsed.config_name or script.stem, task, parsed.overrides)
    finally:
        GlobalHydra.instance().clear()
