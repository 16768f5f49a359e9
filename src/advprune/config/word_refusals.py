"""Say in a sentence what is wrong with a word of a command, and which one is probably meant."""

import shlex

from advprune.config import schema
from advprune.config.groups import hints
from advprune.config.peer_sentences import sentence_on
from advprune.config.peers import MEMBERS, PEERS, nearest
from advprune.config.schema import Vocabulary


def no_flag(argument: str, after: list[str], flags: list[str]) -> str:
    """Return a sentence on a flag that does not exist."""
    name, equals, value = argument.lstrip("-").partition("=")
    if nearest(name, ["multirun"]) and not equals:
        return f"there is no flag {argument}: did you mean -m, or --multirun?"
    for flag in flags:
        if flag.startswith("--") and name.replace("_", "-") == flag.removeprefix("--"):
            return f"there is no flag {argument}: did you mean {flag}?"
    ours, follows = (
        PEERS.get(name.replace("-", "_"), name),
        after[0] if after and "=" not in after[0] else "…",
    )
    message = f"there is no flag {argument}: options are written without dashes and with ="
    return f"{message}, as {ours or 'ratio'}={value or follows}"


def bare(word: str, after: list[str], vocabulary: Vocabulary) -> str:
    """Return a sentence on a word without a value."""
    follows = after[0] if after and "=" not in after[0] else None
    if after and after[0].startswith("="):
        value = after[0][1:] or (after[1] if len(after) > 1 else "…")
        return f"there is a space beside = in {word} =: write {word}={value}"
    plain = word.removesuffix(".yaml").removesuffix(".yml")
    if word in vocabulary.groups:
        return f"{word} alone chooses nothing: write {word}={follows or vocabulary.groups[word][0]}"
    if plain in vocabulary.groups and plain != word:
        return (
            f"{word} is no option: write {plain}={vocabulary.groups[plain][0]}, or another file of "
            f"conf/{plain}/"
        )
    homes = [group for group, members in vocabulary.usable_groups.items() if plain in members]
    if homes:
        return f"{word} alone says nothing: write {homes[0]}={plain}"
    value = follows or "…"
    sentence = sentence_on(word)
    if sentence is not None:
        return f"{word} is no option: {sentence}"
    if word in PEERS:
        return f"{word} is no option: here it is {PEERS[word]}={value}"
    if word.split(".")[0] in hints(schema.COMMANDS[vocabulary.command]):
        return f"{word} has no value: write {word}={value}"
    return (
        f"{word} is no option: an option is NAME=VALUE, as pruner=hydra or ratio=0.9; --help shows "
        "them all"
    )


def unreadable(name: str, value: str) -> str:
    """Return a sentence on a value that Hydra's grammar cannot read."""
    return (
        f"{name}={value} cannot be read, for its value has signs that mean something here: write "
        f"{quoted(name, value)}"
    )


def quoted(name: str, value: str) -> str:
    """Quote a word for the shell so that Hydra takes its value literally."""
    inner = value.strip("'\"").replace('"', '\\"')
    return shlex.quote(f'{name}="{inner}"')


def deleted(word: str, name: str, vocabulary: Vocabulary) -> str:
    """Return a sentence on an option or a group that a word takes away."""
    if name in vocabulary.groups:
        other = f"{name}={vocabulary.groups[name][0]}"
        cure = "train.py prunes nothing" if name == "pruner" else f"choose another, such as {other}"
        return f"{word} takes away what this command needs: {cure}"
    return (
        f"{word} takes an option away, and every option is needed: give {name}=VALUE, or "
        f"{name}=null for none"
    )


def wrong_member(vocabulary: Vocabulary, group: str, member: str) -> str | None:
    """Return a sentence if a group has no such member, else None."""
    members = vocabulary.groups.get(group)
    if members is None or member in members or member == "null":
        return None
    if member.endswith(".yaml") and member.removesuffix(".yaml") in members:
        return (
            f"{group}={member} is not known: write {group}={member.removesuffix('.yaml')}, "
            "without .yaml"
        )
    meant = MEMBERS.get(group, {}).get(member.lower()) or nearest(member, members)
    hint = f"did you mean {group}={meant}? " if meant else ""
    return f"{group}={member} is not known: {hint}{_sample(group, members)}"


def _sample(group: str, members: list[str]) -> str:
    if len(members) > 24:
        return f"conf/{group}/ has {len(members)} of them, and --help names all"
    return f"{group} is one of {', '.join(members)}"
