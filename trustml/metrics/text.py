"""How near a text is to its references: ROUGE-L, SQuAD's two, BLEU and perplexity.

`rouge_l`, `exact_match` and `token_f1` score one text. BLEU and perplexity are functions of sums.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from trustml.metrics.joint import precision_recall_f1

_ORDERS = 4  # n-grams of one to four words, as BLEU is reported
_NOT_A_WORD = re.compile(r"[^a-z0-9]+")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
# The rules of mteval-v13a: symbols stand alone; full stops and commas too, unless inside a number.
_MTEVAL = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def rouge_l(text: str, references: str | Sequence[str]) -> float:
    """ROUGE-L: F1 of the longest common subsequence of words, the best over the references.

    Words are runs of a-z and 0-9 after lower-casing, without a stemmer: what the `rouge_score`
    package does with `use_stemmer=False`.

    Raises:
      ValueError: There is no reference.

    >>> round(rouge_l("The cat sat.", ["a cat sat down", "dogs"]), 4)
    0.5714
    """
    words = _plain_words(text)
    return max(_overlap(words, _plain_words(one)) for one in _references(references))


def exact_match(text: str, references: str | Sequence[str]) -> bool:
    """Whether the text equals one of the references after SQuAD's normalisation.

    Raises:
      ValueError: There is no reference.

    >>> exact_match("The Eiffel tower!", "eiffel  tower")
    True
    """
    answer = _squad_normalized(text)
    return any(answer == _squad_normalized(one) for one in _references(references))


def token_f1(text: str, references: str | Sequence[str]) -> float:
    """SQuAD's F1 of the two bags of words, the best over the references.

    An empty text matches an empty one only, as in the script of SQuAD 2.0.

    Raises:
      ValueError: There is no reference.

    >>> round(token_f1("the tower in Paris", ["Eiffel tower", "a bridge"]), 4)
    0.4
    """
    words = _squad_normalized(text).split()
    return max(_bag_f1(words, _squad_normalized(one).split()) for one in _references(references))


def _squad_normalized(text: str) -> str:
    """Lower case without ASCII punctuation, articles and surplus spaces: SQuAD's normalisation.

    >>> _squad_normalized("An  apple-pie, the best.")
    'applepie best'
    """
    without = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", without).split())


def perplexity(nll: float, tokens: float) -> float:
    """The perplexity of tokens; infinite for a model that diverged.

    >>> round(perplexity(3 * math.log(5), 3), 6)
    5.0

    Args:
      nll: Sum of their negative log-likelihoods.
      tokens: Number of tokens.

    Raises:
      ValueError: `tokens` is not positive.
    """
    if not tokens > 0:
        raise ValueError(f"`tokens` must be positive, got {tokens!r}.")
    mean = float(nll) / float(tokens)
    # exp overflows above 709; NaN stays NaN.
    return math.inf if mean > 709 else math.exp(mean)


def bleu(texts: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
    """BLEU-4 of a corpus, from 0 to 1.

    Tokens of mteval-v13a with their case, the closest length of reference, and "exp" smoothing
    (NIST's: the k-th order without a match counts 1 / 2^k matches): what `sacrebleu` reports by
    default, divided by 100.

    >>> round(bleu(["the cat sat on the mat"], ["the cat sat on a mat"]), 4)
    0.5373
    """
    return bleu_of_counts(bleu_counts(texts, references).sum(0))


def bleu_counts(
    texts: Sequence[str], references: Sequence[str | Sequence[str]]
) -> Int[np.ndarray, "row count"]:
    """Counts of each text, whose sums give BLEU.

    >>> bleu_counts(["a cat"], ["a cat sat"]).tolist()
    [[2, 1, 0, 0, 2, 1, 0, 0, 2, 3]]

    Returns:
      Columns: matches of order 1 to 4, n-grams of order 1 to 4, length of the text, and the
      length of the reference that is closest to it (the shorter of two).

    Raises:
      ValueError: Numbers that do not match, or a text without reference.
    """
    if len(texts) != len(references):
        raise ValueError(f"`references` must have {len(texts)} entries, got {len(references)}.")
    rows = [_bleu_row(*pair) for pair in zip(texts, references, strict=True)]
    return np.array(rows, np.int64).reshape(-1, 2 * _ORDERS + 2)


def bleu_of_counts(counts: Int[np.ndarray, " count"]) -> float:
    """BLEU of sums of the rows of `bleu_counts`.

    >>> bleu_of_counts(bleu_counts(["a b c d"], ["a b c d"]).sum(0))
    1.0
    """
    *both, length, wanted = (int(count) for count in counts)
    right, given = both[:_ORDERS], both[_ORDERS:]
    if not (any(right) and all(given)):
        return 0.0
    smoothing, logs = 1.0, 0.0
    for matches, total in zip(right, given, strict=True):
        smoothing *= 1.0 if matches else 2.0
        logs += math.log((matches or 1.0 / smoothing) / total)
    brevity = min(0.0, 1.0 - wanted / length)
    return math.exp(brevity + logs / _ORDERS)


def _references(references: str | Sequence[str]) -> Sequence[str]:
    several = [references] if isinstance(references, str) else references
    if not len(several):
        raise ValueError("`references` must hold at least one text, got none.")
    return several


def _plain_words(text: str) -> list[str]:
    return _NOT_A_WORD.sub(" ", text.lower()).split()


def _overlap(words: list[str], wanted: list[str]) -> float:
    common = _common_subsequence(words, wanted)
    return precision_recall_f1(common, len(words), len(wanted))[2]


def _common_subsequence(one: list[str], other: list[str]) -> int:
    """Length of the longest; a row of the usual table is the bits of one number (Hyyrö, 2004)."""
    positions: dict[str, int] = {}
    for position, word in enumerate(one):
        positions[word] = positions.get(word, 0) | 1 << position
    all_ones = (1 << len(one)) - 1
    row = all_ones
    for word in other:
        matched = row & positions.get(word, 0)
        row = ((row + matched) | (row - matched)) & all_ones
    return len(one) - row.bit_count()


def _bag_f1(words: list[str], wanted: list[str]) -> float:
    if not (words and wanted):
        return float(words == wanted)
    common = (Counter(words) & Counter(wanted)).total()
    return precision_recall_f1(common, len(words), len(wanted))[2]


def _mteval_words(text: str) -> list[str]:
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for name, sign in _ENTITIES:
        text = text.replace(name, sign)
    text = f" {text} "
    for pattern, spaced in _MTEVAL:
        text = pattern.sub(spaced, text)
    return text.split()


def _grams(words: list[str], order: int) -> Counter:
    return Counter(tuple(words[at : at + order]) for at in range(len(words) - order + 1))


def _bleu_row(text: str, references: str | Sequence[str]) -> list[int]:
    words = _mteval_words(text)
    several = [_mteval_words(one) for one in _references(references)]
    right, given = [], []
    for order in range(1, _ORDERS + 1):
        mine, most = _grams(words, order), Counter[tuple[str, ...]]()
        for one in several:
            most |= _grams(one, order)
        right.append((mine & most).total())
        given.append(mine.total())
    closest = min((len(one) for one in several), key=lambda size: (abs(size - len(words)), size))
    return [*right, *given, len(words), closest]
