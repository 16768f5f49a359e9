"""The exception a user is meant to read: what was given, what is allowed, and the cure."""

import errno


class UserError(ValueError):
    """A wrong option, file or value, explained in one sentence.

    The scripts print this sentence alone, without a traceback, and exit with 1.
    """


_SENTENCES = {
    (errno.EACCES, errno.EPERM, errno.EROFS): (
        "no permission to write {path}; give another place: store=FOLDER, "
        "and hydra.run.dir=FOLDER for the logs"
    ),
    (errno.ENOLCK,): (
        "the file system of {path} has no working file locks; "
        "put the store on another one: store=FOLDER"
    ),
    (errno.ENOSPC, errno.EDQUOT): (
        "the disk is full: {path} could not be written; "
        "free some space and give the same command again"
    ),
    (errno.EFBIG,): (
        "{path} would be larger than files may be here: "
        "raise ulimit -f, and give the same command again"
    ),
    (errno.EISDIR, errno.ENOTDIR, errno.EEXIST): (
        "{path} is in the way ({reason}): remove it, or give another place with store=FOLDER"
    ),
    (errno.ENOENT, errno.ESTALE): (
        "{path} is not there, and cannot be made: it was deleted meanwhile, or its place is "
        "none for files; give the same command again, or another place with store=FOLDER"
    ),
}


def system_sentence(error: OSError) -> str | None:
    """Explain an error of the file system in one sentence, or return None if no file caused it."""
    path = error.filename or "the store"
    for numbers, sentence in _SENTENCES.items():
        if error.errno in numbers:
            return sentence.format(path=path, reason=error.strerror)
    if error.errno is not None and error.filename is not None:
        return (
            f"{path} cannot be used: {error.strerror}; "
            "give another place with store=FOLDER, or free what is short"
        )
    return None


class TrialPruned(Exception):  # noqa: N818 - the name of Optuna's own
    """Signal that the study holds this trial to be worse than others."""
