"""What the claim means, for a reader who decides."""

from typing import NamedTuple

from trustml.report import words
from trustml.report.digits import share_up
from trustml.report.document import Report
from trustml.report.sections.section import Section


class _Content(NamedTuple):
    cards: dict[str, tuple[str, str]]
    topics: list[words.Topic]
    formal: list[tuple[str, str]]


def _build(report: Report) -> _Content:
    privacy = report.privacy
    certain = words.most_certain(privacy.epsilon, privacy.delta)
    share = words.most_found(privacy.epsilon, privacy.delta, words.FALSE_ALARMS)
    cards = {
        "How sure somebody can be": (
            f"50% to {share_up(certain)}",
            "before the model is known, and at most afterwards",
        ),
        "How many members an attack finds": (
            f"1% to {share_up(share)}",
            "by guessing, and at most by any attack, at 1% false alarms",
        ),
    }
    return _Content(cards, words.plain_words(report), words.statement_lines(privacy.statement))


SECTIONS = (Section("words", "In plain words", "the promise", _build, "words.html"),)
