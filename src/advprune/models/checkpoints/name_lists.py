"""Lists of names in messages."""


def some(names: list[str], limit: int) -> str:
    """The first names, and how many more."""
    return ", ".join(names[:limit]) + (
        f" and {len(names) - limit} more" if len(names) > limit else ""
    )
