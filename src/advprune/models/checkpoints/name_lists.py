"""Lists of names in messages."""


def some(names: list[str], limit: int) -> str:
    """Join the first names, and say how many more there are."""
    return ", ".join(names[:limit]) + (
        f" and {len(names) - limit} more" if len(names) > limit else ""
    )
