"""The report in plain words, for a reader who decides."""

import math
from typing import NamedTuple

from trustml.formatting import round_up
from trustml.report.digits import bound_text, one_in, share_up
from trustml.report.document import Report

FALSE_ALARMS = 0.01
GROUPS = (
    "A small group's figures are unsure: judge by the intervals, not by the order. Learning with "
    "privacy often costs most where data are few; the difference to the baseline shows it."
)
TRADE_OFF = "Left is more private, up is more useful; the dashed line has no privacy at all."
SEEDED = (
    "The keys of this run come from a seed given by hand. Who knows or guesses the seed can "
    "subtract the noise, and against them nothing is promised: good for tests, not for a release."
)
UNSEEDED = "Noise and draws come from secret random keys; no seed was given, and none is kept."
# Units that are whole people (or clients): for them no sentence about several of one person.
_PEOPLE = ("user", "person", "client", "patient", "speaker", "customer", "subject")


class Topic(NamedTuple):
    """A heading and its sentences."""

    heading: str
    sentences: tuple[str, ...]
    listed: bool = False  # one thing each, rather than a line of thought


def most_certain(epsilon: float | None, delta: float) -> float:
    """How often a bet at even odds on one unit is right: at most (e^eps + delta) / (e^eps + 1).

    >>> round(most_certain(0.0, 0.0), 3), round(most_certain(math.log(3), 0.0), 3)
    (0.5, 0.75)
    """
    if epsilon is None:
        return 1.0
    fade = math.exp(-epsilon)
    return min(1.0, (1 + delta * fade) / (1 + fade))


def most_found(epsilon: float | None, delta: float, rate: float) -> float:
    """Largest share of members that any attack finds while it accuses `rate` of the others.

    >>> round(most_found(math.log(3), 0.0, 0.01), 4), round(most_found(math.log(3), 0.0, 0.7), 4)
    (0.03, 0.9)

    References:
      Kairouz, Oh and Viswanath, The Composition Theorem for Differential Privacy, 2015, for both
      sides.
    """
    if epsilon is None:
        return 1.0
    grown = math.exp(min(epsilon, 700.0)) * rate + delta
    return min(1.0, grown, 1 - math.exp(-epsilon) * max(0.0, 1 - delta - rate))


def statement_lines(statement: str) -> list[tuple[str, str]]:
    r"""The formal statement as pairs of a key and its text.

    >>> statement_lines("Promise: all.\nnothing else")
    [('Promise', 'all.'), ('', 'nothing else')]
    """
    lines = [line for line in statement.splitlines() if line.strip()]
    cut = [line.partition(": ") if ": " in line else ("", "", line) for line in lines]
    return [(key.strip(), text.strip()) for key, _, text in cut]


def progress(report: Report) -> str:
    """How far a run came that is not complete."""
    privacy, status = report.privacy, report.status
    charged, planned = privacy.steps_charged, privacy.steps_planned
    done = f"{charged:,} of {planned:,} steps are charged"
    if status == "unfinished":
        return f"This run is unfinished: {done}, and the claim is about them alone."
    if status == "stopped early":
        return (
            f"This run stopped early: {done}. The claim stays that of all planned steps, as when "
            "to stop was learned from what the steps released."
        )
    if status == "budget spent":
        return (
            f"The budget of this run is spent: {done}, some of them twice because it went on under "
            "a new key, so that it ended before its last step. The claim is about all."
        )
    return f"{done}, and the claim is about all."


def repeated(report: Report) -> str:
    """What several private runs on one data set cost together."""
    privacy = report.privacy
    runs, epsilon = privacy.composed_runs, privacy.epsilon
    together = "without limit" if epsilon is None else f"at most {round_up(runs * epsilon)}"
    return (
        f"Epsilon is that of one of {runs} runs. Publishing more than one costs more: all {runs} "
        f"together {together}, at {runs} times the delta, by plain addition."
    )


def plain_words(report: Report) -> list[Topic]:
    """What is promised, to whom, against whom, what it means, and where it ends."""
    if report.plan is None:
        return [_promised(report), _attempted(report)]
    topics = [_promised(report), _whom(report), _against(report), _as_a_bet(report)]
    return [*topics, _attempted(report), _uncovered(report), _voided(report)]


def _promised(report: Report) -> Topic:
    privacy = report.privacy
    unit, epsilon, delta = privacy.unit, privacy.epsilon, privacy.delta
    if epsilon is None:
        return Topic(
            "What is promised",
            (
                "Nothing is promised: epsilon is infinite. The model may give away any "
                f"{unit} it was trained on. Handle the trained weights as the data themselves.",
            ),
        )
    change = f"had been left out, or one more {unit} added"
    if _replaces(report):
        change = f"had been replaced by any other {unit} (how many there are is not hidden)"
    return Topic(
        "What is promised",
        (
            f"The trained model would have come out nearly the same if any one {unit} {change}.",
            f"How nearly is the number epsilon, here at most {round_up(epsilon)}, with a slack "
            f"delta of {delta} ({one_in(delta)}). Smaller is stronger; at 0 the model would "
            f"tell nothing about any single {unit}.",
            *((progress(report),) if report.status != "complete" else ()),
        ),
    )


def _whom(report: Report) -> Topic:
    unit = report.privacy.unit
    among = f", of {report.plan.num_units:,} in the training data" if report.plan else ""
    sentences = [f"Every single {unit}{among}: the promise holds for the most unusual one as well."]
    if unit in _PEOPLE:
        sentences.append(f"It covers all that one {unit} contributed, taken together.")
    else:
        sentences.append(
            f"It is for one {unit}, not for one person. Who contributed two of them is protected "
            "with twice the epsilon, who contributed three with three times; delta grows faster."
        )
    return Topic("Whom it protects", tuple(sentences))


def _against(report: Report) -> Topic:
    unit = report.privacy.unit
    sentences = [
        f"Anybody who sees the trained weights, even those of every step, who knows every other "
        f"{unit}, and who has any amount of time and computing power.",
        "Not against somebody who knows the noise keys, or who holds this report: its figures "
        "carry no noise.",
    ]
    if report.run.seeded:
        sentences.append(SEEDED)
    return Topic("Against whom", tuple(sentences))


def _as_a_bet(report: Report) -> Topic:
    privacy = report.privacy
    unit, epsilon, delta = privacy.unit, privacy.epsilon, privacy.delta
    if epsilon is None:
        return Topic(
            "What that means as a bet",
            ("Nothing limits how sure somebody can become, or how many members an attack finds.",),
        )
    before = f"Somebody who is 50% sure beforehand that a given {unit} took part"
    if _replaces(report):
        before = f"Somebody who wavers at 50% between two candidates for one {unit}"
    return Topic(
        f"What an epsilon of {round_up(epsilon)} means as a bet",
        (
            f"{before} can be at most {share_up(most_certain(epsilon, delta))} sure afterwards, on "
            "average over what training may put out: e^epsilon / (1 + e^epsilon), delta included.",
            f"An attack that accuses 1% of those who did not take part finds at most "
            f"{share_up(most_found(epsilon, delta, FALSE_ALARMS))} of those who did, whatever "
            "the attack. Blind guessing finds 1%.",
        ),
    )


def _attempted(report: Report) -> Topic:
    bound = report.audited
    if bound is None:
        return Topic("What was tried", ("No attack on this model is part of this report.",))
    return Topic(
        "What was tried",
        (
            f"An audit by attack found: epsilon is {bound_text(bound)}. The claim is an upper "
            "bound, this is a lower one; the truth lies between, if both hold.",
            "An attack that finds little proves no safety: a better one may find more, up to the "
            "claim and no further.",
        ),
    )


def _uncovered(report: Report) -> Topic:
    unit = report.privacy.unit
    return Topic(
        "What is not covered",
        (
            "This report, and all losses, metrics and times of the run: they are computed without "
            "noise. So is the baseline model, which must not be released as private.",
            "Choices that were tuned on the same data, unless their runs are added to this one.",
            "What the data as a whole show: a conclusion about people that would hold without any "
            f"one {unit} is what training is for, and it may still concern somebody.",
        ),
        listed=True,
    )


def _voided(report: Report) -> Topic:
    unit = report.privacy.unit
    return Topic(
        "What voids it",
        (
            f"A row that is sampled but is not all that is read of one {unit}.",
            "Noise keys or draws that become known, or are used twice.",
            "A setting of the plan that was read off the data.",
            "Another run on the same data that is not added to this one.",
        ),
        listed=True,
    )


def _replaces(report: Report) -> bool:
    return report.privacy.adjacency == "replace-one"
