"""Run ``advprune train|prune|attack|report``: the scripts of the checkout, also without a checkout.

A wheel carries the scripts and ``conf/`` beside each other, as the checkout does.
"""

import difflib
import runpy
import sys
from importlib.metadata import version

from advprune.runtime.installation import scripts

COMMANDS = {
    "train": "train a dense robust network, and attack it",
    "prune": "train, prune, fine-tune and attack a network: the main command",
    "attack": "attack what prune made with the same options, or any weights",
    "report": "write the report of all results: a leaderboard, comparisons, plots",
}
HELP = """\
usage: advprune COMMAND [OPTION=VALUE ...]

{commands}

  advprune prune pruner=hydra ratio=0.99 -m
  advprune prune -m pruner=hydra,magnitude ratio=0.9,0.99 seed=0,1,2
  advprune attack pruner=hydra ratio=0.99 attack=autoattack

Results go into multirun/ of the folder that you are in. `advprune COMMAND --help` lists a
command's options with their defaults; where a page says `python prune.py`, write `advprune prune`.
In Python, `import advprune` has prune and evaluate. TAB completes options in bash after
eval "$(advprune completion bash)".
"""
#: A shell's function: Hydra knows the words, once the line begins with the command.
BASH = """\
_advprune() {
    local line=${COMP_LINE:0:COMP_POINT} word=${COMP_WORDS[COMP_CWORD]} found
    if (( COMP_CWORD == 1 )); then
        COMPREPLY=($(compgen -W "train prune attack report" -- "$word"))
        return
    fi
    line=${line#*[[:space:]]}
    found=$(COMP_LINE=$line COMP_POINT=${#line} "$1" "${COMP_WORDS[1]}" -sc query=bash 2>/dev/null)
    local typed=${line##*[[:space:]]}
    COMPREPLY=($(compgen -W "$found" -- "$typed"))
    # readline replaces what follows the last = alone
    [[ $COMP_WORDBREAKS == *=* && $typed == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"${typed%=*}="}")
}
complete -o nospace -o default -F _advprune advprune
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command, and return its exit code; train, prune and attack exit themselves.

    Args:
        arguments: without the program's name; None takes the process's.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<8}{text}" for name, text in COMMANDS.items())
        print(HELP.format(commands=lines), end="")  # noqa: T201
        return 0 if words else 2
    command, *options = words
    if command in ("-V", "--version"):
        print(f"advprune {version('advprune')}")  # noqa: T201
        return 0
    if words == ["completion", "bash"]:
        print(BASH, end="")  # noqa: T201
        return 0
    if command not in COMMANDS:
        print(f"error: {_unknown(command)}", file=sys.stderr)  # noqa: T201
        return 1
    if command == "report":
        from advprune.report.__main__ import main as report

        return report(options)
    script = str(scripts() / f"{command}.py")
    sys.argv = [script, *options]
    runpy.run_path(script, run_name="__main__")
    return 0


def _unknown(word: str) -> str:
    """Say what is wrong with a first word that is no command."""
    names = ", ".join(COMMANDS)
    if "=" in word or word.startswith("-"):
        return f"{word} comes before the command: write advprune prune {word} (or {names})"
    near = difflib.get_close_matches(word, COMMANDS, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"there is no command {word}: {meant}it must be one of {names}"
