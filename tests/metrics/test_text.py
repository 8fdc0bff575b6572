"""Metrics of texts against other algorithms, published packages' values and counts by hand."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trustml import metrics

WORDS = st.lists(st.sampled_from(["a", "the", "cat", "dog", "sat", "x-y", "3.5,"]), max_size=9)
# Values of sacrebleu 2.6.0 (divided by 100) and rouge-score 0.1.2 without stemmer, computed apart.
TEXTS = ["It costs $10,000 -- or 3.5% more.", "the dog's well-known bark, again", "Nothing here"]
WANTED = [
    ["It cost $10,000, or 3.5% more.", "That is 3.5% more"],
    ["a dog's well-known bark again", "the dog barked"],
    ["all else differs entirely"],
]
PUBLISHED_BLEU = [0.4671379777281999, 0.3432945239845197, 0.0]
PUBLISHED_ROUGE = [0.875, 0.8571428571428571, 0.0]


def common_subsequence(one, other):
    """The table of the textbook."""
    table = np.zeros((len(one) + 1, len(other) + 1), int)
    for i, j in itertools.product(range(len(one)), range(len(other))):
        longer = max(table[i, j + 1], table[i + 1, j])
        table[i + 1, j + 1] = table[i, j] + 1 if one[i] == other[j] else longer
    return table[-1, -1]


def f1(common, said, wanted):
    return 2 * common / (said + wanted) if common else 0.0


@settings(derandomize=True, deadline=None, max_examples=200)
@given(WORDS, WORDS, WORDS)
@example(["a"] * 70, ["a", "cat"] * 70, [])  # longer than a machine word
def test_rouge_l_equals_the_textbooks_table(said, one, other):
    def words(tokens):
        return " ".join(tokens).replace("-", " ").replace(".", " ").replace(",", " ").split()

    expected = [
        f1(common_subsequence(words(said), words(ref)), len(words(said)), len(words(ref)))
        for ref in (one, other)
    ]
    found = metrics.rouge_l(" ".join(said).upper(), [" ".join(one), " ".join(other)])
    assert found == pytest.approx(max(expected), abs=1e-12)


def test_values_of_the_published_packages():
    for text, references, score, overlap in zip(
        TEXTS, WANTED, PUBLISHED_BLEU, PUBLISHED_ROUGE, strict=True
    ):
        assert metrics.bleu([text], [references]) == pytest.approx(score, abs=1e-12)
        assert metrics.rouge_l(text, references) == pytest.approx(overlap, abs=1e-12)


def plain_bleu(texts, references):
    """BLEU of lower-case words, written from its formula; one reference a text."""
    logs, smoothing = [], 1.0
    for order in (1, 2, 3, 4):
        right = given = 0
        for text, reference in zip(texts, references, strict=True):
            grams, left = (
                [tuple(side.split()[i : i + order]) for i in range(len(side.split()) - order + 1)]
                for side in (text, reference)
            )
            given += len(grams)
            for gram in grams:
                if gram in left:
                    left.remove(gram)
                    right += 1
        if not given or (order == 1 and not right):
            return 0.0
        if not right:
            smoothing /= 2
        logs.append(math.log((right or smoothing) / given))
    lengths = [sum(len(side.split()) for side in sides) for sides in (texts, references)]
    return min(1.0, math.exp(1 - lengths[1] / lengths[0])) * math.exp(sum(logs) / 4)


def test_bleu_equals_its_formula_and_punishes_short_texts():
    draw = random.Random(0)
    for _ in range(100):
        texts, references = (
            [" ".join(draw.choices("abcd", k=draw.randint(1, 9))) for _ in range(3)] for _ in "tr"
        )
        found = metrics.bleu(texts, references)
        assert found == pytest.approx(plain_bleu(texts, references), abs=1e-12)
    # By hand: every n-gram is right, 4 words for 6 wanted.
    assert metrics.bleu(["a b c d"], ["a b c d e f"]) == pytest.approx(math.exp(1 - 6 / 4))
    assert metrics.bleu(["a b c"], ["a b c"]) == 0.0  # no n-gram of four words
    assert metrics.bleu([""], ["a"]) == 0.0


def test_bleu_takes_the_closest_reference_and_the_most_matches_of_any():
    counts = metrics.bleu_counts(["a a b"], [["a", "a b c c c", "b b b b b b b"]])
    # "a" twice in the text, at most once in a reference; of lengths 1 and 5 both 2 away: the less.
    assert counts.tolist() == [[2, 1, 0, 0, 3, 2, 1, 0, 3, 1]]


@pytest.mark.parametrize(
    ("text", "references", "exact", "f1"),
    [
        ("the Apple-pie!", "applepie", True, 1.0),
        ("in 1066 A.D.", ["1066", "in 1066 AD"], True, 1.0),
        ("blue cat blue", "blue blue dog sky", False, 4 / 7),  # 2 of 3 and of 4
        ("cat", "dog", False, 0.0),
        ("the", "", True, 1.0),  # an article alone is nothing
        ("", "cat", False, 0.0),
        ("theatre", "atre", False, 0.0),  # articles are whole words
    ],
)
def test_answers_are_judged_as_squad_does(text, references, exact, f1):
    assert metrics.exact_match(text, references) is exact
    assert metrics.token_f1(text, references) == pytest.approx(f1, abs=1e-12)


def test_perplexity_is_that_of_the_mean():
    assert metrics.perplexity(3 * math.log(5), 3) == pytest.approx(5)
    assert metrics.perplexity(1e6, 2) == math.inf
    assert math.isnan(metrics.perplexity(math.nan, 2))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: metrics.rouge_l("a", []), "references"),
        (lambda: metrics.token_f1("a", ()), "references"),
        (lambda: metrics.exact_match("a", []), "references"),
        (lambda: metrics.bleu(["a"], []), "`references` must have 1"),
        (lambda: metrics.bleu(["a"], [[]]), "at least one"),
        (lambda: metrics.perplexity(1.0, 0), "tokens"),
    ],
)
def test_bad_input_is_refused_by_name(call, name):
    with pytest.raises(ValueError, match=name):
        call()
