"""Text from outside on its way into a log, a refusal or a terminal: one line, plain and short."""

from __future__ import annotations


def one_line(text: str, most: int = 500) -> str:
    """`text` as one line of at most `most` characters that shows all that it holds.

    White space becomes single blanks; whatever else does not print (a terminal's escape
    sequences, NUL, marks that turn the direction of writing) is shown as its escape.
    """
    line = "".join(
        each if each.isprintable() else ascii(each)[1:-1] for each in " ".join(text.split())
    )
    return line if len(line) <= most else line[: most - 1] + "…"
