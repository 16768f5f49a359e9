"""The exception a user is meant to read: what was given, what is allowed, and the cure."""

import errno


class UserError(ValueError):
    """A wrong option, file or value, explained in one sentence.

    The scripts print this sentence alone, without a traceback, and exit with 1.
    """


def system_sentence(error: OSError) -> str | None:
    """Explain an error of the file system in one sentence, or return None if no file caused it."""
    path = error.filename or "the store"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"no permission to write {path}; give another place: store=FOLDER, "
            "and hydra.run.dir=FOLDER for the logs"
        )
    if error.errno == errno.ENOLCK:
        return (
            f"the file system of {path} has no working file locks; "
            "put the store on another one: store=FOLDER"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk is full: {path} could not be written; "
            "free some space and give the same command again"
        )
    if error.errno == errno.EFBIG:
        return (
            f"{path} would be larger than files may be here: "
            "raise ulimit -f, and give the same command again"
        )
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        return (
            f"{path} is in the way ({error.strerror}): "
            "remove it, or give another place with store=FOLDER"
        )
    if error.errno in (errno.ENOENT, errno.ESTALE):
        return (
            f"{path} is not there, and cannot be made: it was deleted meanwhile, or its place is "
            "none for files; give the same command again, or another place with store=FOLDER"
        )
    if error.errno is not None and error.filename is not None:
        return (
            f"{path} cannot be used: {error.strerror}; "
            "give another place with store=FOLDER, or free what is short"
        )
    return None
