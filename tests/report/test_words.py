"""The words and figures of a report, by hand."""

import math

import pytest

from trustml.formatting import round_down, round_up
from trustml.report import digits, from_json, words


def told(report):
    return {
        topic.heading: " ".join(topic.sentences) for topic in words.plain_words(from_json(report))
    }


def test_the_betting_figures_by_hand(sample):
    # Odds of 9 to 1 after even odds, and at most nine times as many members as false alarms.
    found = told(sample(epsilon=math.log(9) - 1e-12, delta=0.0))
    bet = found["What an epsilon of 2.20 means as a bet"]
    assert "at most 90.0% sure" in bet
    assert "at most 9.00% of those who did" in bet
    assert words.most_certain(math.log(3), 0.04) == pytest.approx(3.04 / 4)
    assert words.most_found(math.log(3), 0.1, 0.01) == pytest.approx(0.13)
    assert words.most_found(math.log(3), 0.0, 0.5) == pytest.approx(1 - 0.5 / 3)
    assert words.most_found(5000.0, 0.0, 0.5) == words.most_certain(5000.0, 0.0) == 1.0


def test_the_words_follow_the_report(sample, render):
    assert "left out" in told(sample())["What is promised"]
    replaced = told(sample(adjacency="replace-one"))
    assert "replaced by any other utterance" in replaced["What is promised"]
    assert "two candidates" in replaced["What an epsilon of 3.00 means as a bet"]
    nothing = told(sample(epsilon=None))
    assert nothing["What is promised"].startswith("Nothing is promised")
    assert "not for one person" in told(sample())["Whom it protects"]
    assert "not for one person" not in told(sample(unit="user"))["Whom it protects"]
    repeated = sample(composed_runs=3)
    assert "one of 3 runs" in render([repeated])
    assert "at most 9.00, at 3 times the delta" in render([repeated])


@pytest.mark.parametrize("value", [2.9997, 2.1, 0.1, 1e-7, 123.4, 9.999, 0.0, 7e22])
def test_a_claim_is_rounded_up_and_a_lower_bound_down(value):
    up, down = float(round_up(value)), float(round_down(value))
    assert down <= value <= up
    assert up - down <= 0.0101 * value
    share = min(1.0, value / 100)
    assert float(digits.share_up(share).removesuffix("%")) >= 100 * share - 1e-9
