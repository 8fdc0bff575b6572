"""How charts look: colours, dashes and marks that differ in black and white as well."""

from typing import Any, NamedTuple

# After Okabe and Ito (2008), which the colour-blind tell apart. The page's style sheet has the same
# names, with other colours in the dark.
COLOURS = {
    "ink": "#1b2430",
    "soft": "#56616f",
    "rule": "#d5dae1",
    "paper": "#fefefe",
    "private": "#0072b2",
    "baseline": "#c2410c",
    "claim": "#8a3b73",
    "guess": "#6b7280",
    "part-1": "#56b4e9",
    "part-2": "#e69f00",
    "part-3": "#3cb08c",
    "part-4": "#cc79a7",
    "part-rest": "#b9c0c9",
    "on-part": "#10161d",
}


class Look(NamedTuple):
    """A colour by its name, a dash and a mark of matplotlib's, a width in points."""

    colour: str
    dash: Any = "-"
    mark: str = "o"
    width: float = 1.8


LOOKS = {
    "private": Look("private"),
    "baseline": Look("baseline", (0, (4, 2.2)), "D"),
    "planned": Look("private", (0, (1, 2))),
    "budget": Look("claim", (0, (5, 1.8, 1.4, 1.8)), "|"),  # a limit, not an estimate
    "guess": Look("guess", (0, (1.6, 2)), width=1.4),
    "claim": Look("claim", width=1.3),
}


def line_style(look: Look) -> dict[str, Any]:
    """Of a line, for `axes.plot`.

    >>> line_style(LOOKS["claim"])
    {'color': '#8a3b73', 'linestyle': '-', 'linewidth': 1.3}
    """
    return {"color": COLOURS[look.colour], "linestyle": look.dash, "linewidth": look.width}


def mark_style(look: Look) -> dict[str, Any]:
    """Of marks without a line, for `axes.plot`.

    >>> mark_style(LOOKS["baseline"])["markerfacecolor"] == COLOURS["paper"]
    True
    """
    colour = COLOURS[look.colour]
    hollow = look.mark == "D"
    return {
        "linestyle": "none",
        "marker": look.mark,
        "markersize": 9 if look.mark == "|" else 6,
        "color": colour,
        "markerfacecolor": COLOURS["paper"] if hollow else colour,
        "markeredgecolor": colour,
        "markeredgewidth": 2.2 if look.mark == "|" else 1.6,
    }
