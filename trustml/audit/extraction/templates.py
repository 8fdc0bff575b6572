"""Canaries: sentences that end in a secret, and what an attacker knows of them."""

from typing import NamedTuple

import numpy as np

from trustml.plan.checks import check_count

_DIGITS = tuple("0123456789")
_COLORS = ("red", "blue", "green", "yellow", "black", "white", "purple", "orange", "brown", "pink")


class _Pattern(NamedTuple):
    """The words before a secret, and the words that secrets are made of."""

    prefix: tuple[str, ...]
    vocabulary: tuple[str, ...]


# The first two as in the paper. Of its third pattern only the name is known: words are ours.
_PATTERNS = {
    "call": _Pattern(("call",), _DIGITS),
    "pin": _Pattern(("my", "pin", "code", "is"), _DIGITS),
    "color": _Pattern(("my", "favorite", "colors", "are"), _COLORS),
}


class Template(NamedTuple):
    """All that an attacker knows: a sentence whose last `length` words are missing."""

    prefix: tuple[str, ...]
    length: int
    vocabulary: tuple[str, ...]
    slot: str = "canary"

    @property
    def tags(self) -> tuple[str, ...]:
        """The BIO tags of the whole sentence: those of the secret are the slot's."""
        begin, inside = f"B-{self.slot}", f"I-{self.slot}"
        return (*("O",) * len(self.prefix), begin, *(inside,) * (self.length - 1))

    @property
    def codes(self) -> int:
        """How many secrets there are."""
        return len(self.vocabulary) ** self.length


class Canary(NamedTuple):
    """A template and the secret that completes it."""

    template: Template
    secret: tuple[int, ...]  # places in the vocabulary

    @property
    def tokens(self) -> tuple[str, ...]:
        """The sentence."""
        words = self.template.vocabulary
        return (*self.template.prefix, *(words[place] for place in self.secret))


def make_template(pattern: str, length: int, slot: str = "canary") -> Template:
    """The template of a pattern of the paper.

    >>> found = make_template("pin", 2)
    >>> found.prefix, found.tags, found.codes
    (('my', 'pin', 'code', 'is'), ('O', 'O', 'O', 'O', 'B-canary', 'I-canary'), 100)

    Args:
      pattern: "call" ("call" and digits), "pin" ("my pin code is" and digits) or "color" ("my
        favorite colors are" and ten colours). The words of "color" are ours: the paper's are not
        known to us.
      length: Words of the secret.
      slot: Name of the slot that tags the secret; the data must not have it yet.

    Raises:
      ValueError: An unknown pattern, or a length below 1.

    References:
      Parikh, Dupuy and Gupta, Canary Extraction in Natural Language Understanding Models, 2022.
    """
    if pattern not in _PATTERNS:
        raise ValueError(f"`pattern` must be one of {', '.join(_PATTERNS)}, got {pattern!r}.")
    check_count("length", length)
    found = _PATTERNS[pattern]
    return Template(found.prefix, length, found.vocabulary, slot)


def draw_canary(template: Template, rng: np.random.Generator) -> Canary:
    """A canary whose secret is drawn from all secrets of the template, each as likely.

    >>> template = make_template("call", 4)
    >>> canary = draw_canary(template, np.random.default_rng(0))
    >>> canary.tokens
    ('call', '8', '6', '5', '2')
    """
    check_template(template)
    secret = rng.integers(len(template.vocabulary), size=template.length)
    return Canary(template, tuple(secret.tolist()))


def check_template(template: Template) -> None:
    """Refuses a template that no secret completes, or whose words repeat."""
    check_count("length", template.length)
    words = template.vocabulary
    if len(words) < 2 or len(set(words)) < len(words):
        raise ValueError(f"`vocabulary` must hold two or more different words, got {words!r}.")
