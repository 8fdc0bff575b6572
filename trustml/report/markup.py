"""Pieces of HTML: all escape the text that they are given, except what is called `body`."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from trustml.report import digits
from trustml.strict_json import dumps


def heading(text: str) -> str:
    """Below a section's own."""
    return f'<h4 class="sub">{escape(text)}</h4>'


def paragraph(text: str) -> str:
    """One; nothing for an empty text."""
    return f"<p>{escape(text)}</p>" if text else ""


def paragraphs(texts: Iterable[str]) -> str:
    """One for each text."""
    return "".join(map(paragraph, texts))


def bullets(texts: Iterable[str]) -> str:
    """A list."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def boxes(boxes: Iterable[tuple[str, str]]) -> str:
    """What must be read first, each with its kind."""
    return "".join(f'<p class="box {kind}" role="note">{escape(text)}</p>' for kind, text in boxes)


def cards(cards: dict[str, tuple[str, str]]) -> str:
    """Labels, each with a figure and a note."""
    items = (
        f'<div><dt>{escape(label)}</dt><dd class="value">{escape(value)}</dd>'
        f"<dd>{escape(note)}</dd></div>"
        for label, (value, note) in cards.items()
    )
    return f'<dl class="cards">{"".join(items)}</dl>'


def links(links: Iterable[tuple[str, str]]) -> str:
    """Anchors of the page."""
    items = "".join(f'<li><a href="{anchor}">{escape(text)}</a></li>' for anchor, text in links)
    return f'<nav><ul class="links">{items}</ul></nav>'


def figures(figures: Sequence[tuple[str, str]]) -> str:
    """Plots with their captions; those that are empty are left out."""
    drawn = "".join(_figure(body, caption) for body, caption in figures if body)
    return f'<div class="figures">{drawn}</div>' if drawn else ""


def _figure(body: str, caption: str) -> str:
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><div>{body}</div>{said}</figure>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls in its own box."""
    top = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        f"{''.join(f'<td>{escape(text)}</td>' for text in row[1:])}</tr>"
        for row in rows
    )
    # Reachable by the keyboard, as it may scroll.
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def pairs(values: dict[str, Any]) -> str:
    """A table of names and values."""
    return table(("Name", "Value"), [(name, _plain(value)) for name, value in values.items()])


def _plain(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: digits.NONE, True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else dumps(value, ascii_only=False)


def folded(title: str, body: str) -> str:
    """What is shown on demand."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>"
