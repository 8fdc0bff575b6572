"""The synthetic corpus: utterances that the package generates itself, from its own grammar.

The rows belong to nobody and need no protection: everything runs at once, without a download. The
corpus has what real collections have: names of the test split that training does not share, users
of very different activity, times of day, two ways of speaking, and ambiguous sentences ("play
<title>": a track, an album, a band?).
"""

import random
import re
from collections.abc import Sequence

from trustml.data.errors import DataError
from trustml.data.examples import Examples, Splits
from trustml.data.grammar import INTENTS, RULES, VALUES
from trustml.data.rows import Utterance

GROUPS = ("general speech", "regional speech")
DAYS = 90
_STARTS = (
    *("b", "br", "c", "ch", "d", "f", "gr", "h", "j", "k", "l", "m"),
    *("n", "p", "qu", "r", "s", "sh", "t", "tr", "v", "w", "y", "z"),
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
    """The synthetic corpus in three splits, alike on every machine for the same arguments.

    >>> splits = generate(train=20, valid=5, test=5, seed=1)
    >>> [len(split) for split in splits], splits.train.name, splits.train.synthetic
    ([20, 5, 5], 'synthetic', True)

    Args:
      train: Rows of the split for training.
      valid: Rows of the split for validation.
      test: Rows of the split for testing.
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
    splits = [
        _split(name, size, random.Random(f"trustml synthetic {seed} {name}"), users, chosen)
        for name, size in (("train", train), ("valid", valid), ("test", test))
    ]
    return Splits(*splits)


def _split(name, size, draw, users, intents) -> Examples:
    weights = [1 / (rank + 1) for rank in range(users)]
    speakers = draw.choices(range(users), weights, k=size)
    rows = tuple(_utterance(draw, user, intents) for user in speakers)
    return Examples(
        name="synthetic",
        split=name,
        task="nlu",
        rows=rows,
        unit="utterance",
        labels=intents,
        slots=tuple(VALUES),
        owner_kind="user",
        owners=tuple(row.user for row in rows),
        groups=GROUPS,
        group_of=tuple(row.group for row in rows),
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
    """One sentence from a rule of the grammar, as (token, BIO tag) pairs.

    >>> expand("(wake me|get up) now", random.Random(1))
    [('wake', 'O'), ('me', 'O'), ('now', 'O')]
    """
    words: list[tuple[str, str]] = []
    for text in _REFERENCE.split(_chosen(rule, draw)):
        name = text[1:-1]
        if text.startswith("{"):
            value = _plain(draw.choice(VALUES[name]), draw).split()
            words += [(word, f"{'I' if index else 'B'}-{name}") for index, word in enumerate(value)]
        elif text.startswith("<"):
            words += expand(draw.choice(RULES[name]), draw)
        else:
            words += [(word, "O") for word in text.split()]
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
    spoken: list[tuple[str, str]] = []
    for word, tag in words:
        if tag == "O" and regional and draw.random() < 0.5:
            word = _REGIONAL.get(word, word)
        if tag == "O" and len(word) > 3 and draw.random() < 0.01:
            at = draw.randrange(len(word) - 1)
            word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        spoken += [(part, tag) for part in word.split()]
    if draw.random() < 0.06:
        spoken = [(draw.choice(("um", "uh", "hey", "ok", "so")), "O"), *spoken]
    return spoken


def _moment(draw: random.Random) -> int:
    return draw.randrange(DAYS) * 86_400 + int(draw.triangular(6, 24, 18) * 3600)
