"""The synthetic corpus: utterances that the package generates itself, from its own grammar.

Nobody said any of them, so it needs no protection; it exists so that everything runs at once and
without a download. It has what real collections have: names that the test part does not share
with the training part, users of very different activity, times of day, two ways of speaking, and
sentences whose meaning cannot be told ("play <title>": a track, an album, a band?).
"""

import random
import re
from collections.abc import Sequence

from trustml.data.corpus import Corpus, DataError, Splits, Utterance
from trustml.data.grammar import INTENTS, RULES, VALUES

GROUPS = ("general speech", "regional speech")
DAYS = 90
_STARTS = (
    "b",
    "br",
    "c",
    "ch",
    "d",
    "f",
    "gr",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "qu",
    "r",
    "s",
    "sh",
    "t",
    "tr",
    "v",
    "w",
    "y",
    "z",
)
_VOWELS = ("a", "e", "i", "o", "u", "a", "e", "o", "ai", "oo")
_ENDS = ("n", "r", "s", "l", "ck", "nd", "x", "m", "th", "ng", "tte", "sch", "", "")
_REGIONAL = {
    "you": "ya",
    "want": "wanna",
    "the": "tha",
    "going": "gonna",
    "to": "ta",
    "my": "me",
    "what's": "whit's",
    "please": "mate",
    "for": "fer",
    "is": "be",
    "with": "wi'",
    "and": "an'",
    "little": "wee",
    "what": "whit",
    "some": "a wee bit of",
    "need": "reckon i need",
}
_CHOICE = re.compile(r"\(([^()]*)\)")
_REFERENCE = re.compile(r"(<[^<>]+>|\{[^{}]+\})")


def generate(
    *,
    train: int = 16_000,
    valid: int = 1000,
    test: int = 1000,
    seed: int = 0,
    users: int = 400,
    intents: Sequence[str] | None = None,
) -> Splits:
    """Generates the synthetic corpus; the same arguments give the same rows on every machine.

    >>> parts = generate(train=20, valid=5, test=5, seed=1)
    >>> [len(part) for part in parts], parts.train.name, parts.train.synthetic
    ([20, 5, 5], 'synthetic', True)

    Args:
      train: Rows of the training part; valid and test likewise.
      valid: See `train`.
      test: See `train`.
      seed: Which corpus.
      users: How many users speak; the k-th speaks in proportion to 1/k (Zipf).
      intents: Only these intents of the grammar; by default all.
    """
    for name, value in (("train", train), ("valid", valid), ("test", test), ("users", users)):
        if not (isinstance(value, int) and value > 0):
            raise DataError(f"`{name}` must be a positive integer, got {value!r}.")
    chosen = tuple(INTENTS) if intents is None else tuple(intents)
    strange = [intent for intent in chosen if intent not in INTENTS]
    if strange or not chosen:
        raise DataError(f"`intents` must be some of {', '.join(INTENTS)}, got {strange}.")
    parts = [
        _part(name, size, random.Random(f"trustml synthetic {seed} {name}"), users, chosen)
        for name, size in (("train", train), ("valid", valid), ("test", test))
    ]
    return Splits(*parts)


def _part(name, size, draw, users, intents) -> Corpus:
    weights = [1 / (rank + 1) for rank in range(users)]
    speakers = draw.choices(range(users), weights, k=size)
    rows = tuple(_utterance(draw, user, intents) for user in speakers)
    slots = tuple(VALUES)
    return Corpus(
        name="synthetic",
        intents=intents,
        slots=slots,
        utterances=rows,
        groups=GROUPS,
        synthetic=True,
        source=f"synthetic {name}, {size} generated rows",
    )


def _utterance(draw: random.Random, user: int, intents: tuple[str, ...]) -> Utterance:
    # A user's group and taste follow from the number alone, alike in every part.
    group = int(user % 4 == 3)
    habits = random.Random(f"habits {user}")
    liked = [habits.random() + 0.2 for _ in intents]
    intent = draw.choices(intents, liked)[0]
    words = expand(draw.choice(INTENTS[intent]), draw)
    words = _spoken(words, draw, regional=bool(group))
    return Utterance(
        tuple(word for word, _ in words),
        tuple(tag for _, tag in words),
        intent,
        user,
        _moment(draw),
        group,
    )


def expand(rule: str, draw: random.Random) -> list[tuple[str, str]]:
    """Draws one sentence from a rule of the grammar, as (token, BIO tag) pairs."""
    words: list[tuple[str, str]] = []
    for piece in _REFERENCE.split(_chosen(rule, draw)):
        if piece.startswith("{"):
            found = _plain(draw.choice(VALUES[piece[1:-1]]), draw).split()
            words += [
                (word, f"{'I' if place else 'B'}-{piece[1:-1]}") for place, word in enumerate(found)
            ]
        elif piece.startswith("<"):
            words += expand(draw.choice(RULES[piece[1:-1]]), draw)
        else:
            words += [(word, "O") for word in piece.split()]
    return words


def _plain(rule: str, draw: random.Random) -> str:
    """A value as text: `<rule>` inside a word (`<made>ville`) joins without a space."""
    text = _chosen(rule, draw)
    return re.sub(r"<([^<>]+)>", lambda match: _rule(match.group(1), draw), text)


def _rule(name: str, draw: random.Random) -> str:
    if name == "made":
        return _made_up(draw)
    return _plain(draw.choice(RULES[name]), draw)


def _chosen(rule: str, draw: random.Random) -> str:
    while _CHOICE.search(rule):
        rule = _CHOICE.sub(lambda match: draw.choice(match.group(1).split("|")), rule)
    return rule


def _made_up(draw: random.Random) -> str:
    length = draw.choice((1, 2, 2, 2, 3))
    syllables = (draw.choice(_STARTS) + draw.choice(_VOWELS) for _ in range(length))
    return "".join(syllables) + draw.choice(_ENDS)


def _spoken(words, draw: random.Random, *, regional: bool) -> list[tuple[str, str]]:
    """Adds what speech adds: another dialect, fillers and slips of the tongue, outside slots."""
    said: list[tuple[str, str]] = []
    for word, tag in words:
        if tag == "O" and regional and draw.random() < 0.5:
            word = _REGIONAL.get(word, word)
        if tag == "O" and len(word) > 3 and draw.random() < 0.01:
            place = draw.randrange(len(word) - 1)
            word = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
        said += [(part, tag) for part in word.split()]
    if draw.random() < 0.06:
        said = [(draw.choice(("um", "uh", "hey", "ok", "so")), "O"), *said]
    return said


def _moment(draw: random.Random) -> int:
    return draw.randrange(DAYS) * 86_400 + int(draw.triangular(6, 24, 18) * 3600)
