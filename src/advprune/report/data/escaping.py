"""Escape users' text for the cells of CSV, LaTeX and Markdown files, and keep it on one line."""

LATEX = {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    **{special: f"\\{special}" for special in "&%$#_{}"},
}


def latex_cell(text: str) -> str:
    """Escape every character that LaTeX would act on."""
    return "".join(LATEX.get(character, character) for character in _one_line(text))


def markdown_cell(text: str) -> str:
    """Escape what would end the cell, begin a tag or make a link."""
    for special in ("\\", "|", "`"):
        text = text.replace(special, f"\\{special}")
    return _one_line(text).replace("<", "&lt;").replace("](", "]\\(")


def _one_line(text: str) -> str:
    return " ".join(text.split())
