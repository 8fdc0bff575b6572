"""Can a secret be read back out of a trained tagger, and which defence prevents it?

    python bench/extraction.py --out runs.jsonl    # about 25 minutes on two cores; may be stopped
    python bench/extraction.py --cases pin-6-100 --defences none,all --runs 20
    python bench/extraction.py --quick             # generated rows, tiny sizes: does it run?

After Parikh, Dupuy and Gupta (ACL 2022). A case is pattern-words-copies: `call-4-10` is "call" and
four random digits, ten times among 4,000 utterances of SNIPS (three of its intents), which are read
from the folder in TRUSTML_DATA. Each run trains a tagger (character CNN, BiLSTM, CRF) with one
canary: secret, places, start and draws are its own, and the utterances are those of all. Then two
attackers read who know the weights and the words before the secret: `inversion`, the paper's,
whose answer is the best of its restarts, and `exhaustive`, who scores every code. `exposure` is in
bits; log2 of the number of codes is the most, 1.4 the mean of a secret that the model never saw.
Intervals are Clopper and Pearson's, 95 %.

Defences: `letters` gives the tagger its character embeddings, which it lacks otherwise; `early
stopping` ends after the first epoch from the fourth on with a higher validation loss; `dp-sgd`
promises epsilon 8 at delta 1e-5 for one utterance. Ten copies are ten utterances, so the promise
for the secret is some ten times weaker; what attacks find is measured. No promise covers the
validation rows, which early stopping reads, nor the choice of settings, by a few runs with other
seeds on the same rows.

Every finished run is a line of --out; lines already there are not repeated.

Expected: bench/README.md holds the table last measured, with device and versions.
"""

import argparse
import functools
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from _extraction import Case, Defence, Experiment, Study, read_data
from _timing import print_markdown, print_rows, row, say, shown, where
from utility import Results

from trustml.audit import clopper_pearson
from trustml.audit.extraction import make_template

BENCH = "extraction"
HEADLINE = "call-4-10"
CASES = (HEADLINE, "pin-4-10", "color-4-10", "call-6-10", "call-4-100", "call-4-1000")
_EPSILON = 8.0
_FIRST_SEED = 100  # those below chose the settings
DEFENCES = {
    "none": Defence(),
    "dropout": Defence(dropout=0.5),
    "early stopping": Defence(early_stopping=True),
    "letters": Defence(letters=True),
    "the three": Defence(dropout=0.5, early_stopping=True, letters=True),
    "dp-sgd": Defence(epsilon=_EPSILON),
    "all": Defence(dropout=0.5, early_stopping=True, letters=True, epsilon=_EPSILON),
}
ENDS = ("none", "all")
QUICK = Experiment(rows=60, batch=16, epochs=2, private_batch=16, private_steps=2, restarts=2)
_COUNTS = {"extracted": "inversion", "exhaustive": "exhaustive"}
_MEANS = (
    *("hamming", "restarts_right", "restarts_hamming", "exposure", "exposure_fit"),
    *("fit_distance", "slot_f1"),
)


def plan_of_runs(chosen) -> list[tuple[str, str, int]]:
    """Case, defence and runs: all defences on the first case, the two ends on the others."""
    if chosen.defences:
        return [(case, name, chosen.runs) for case in chosen.cases for name in chosen.defences]
    first, *others = chosen.cases
    quarter, tenth = (max(1, chosen.runs // share) for share in (4, 10))
    between = [name for name in DEFENCES if name not in ENDS and not chosen.quick]
    return [
        *((first, name, chosen.runs) for name in ENDS),
        *((first, name, quarter) for name in between),
        *((case, name, tenth) for case in others for name in ENDS),
    ]


def measure(case: str, name: str, runs: int, study: Study, results: Results) -> dict:
    """The row of one defence: `runs` trainings, those that are done already not repeated."""
    lines = []
    for place in range(runs):
        seed = _FIRST_SEED + place
        key = {"case": case, "rival": name, "seed": seed, "settings": study.settings}
        found = results.find(**key)
        if found is None:
            begin = time.perf_counter()
            scores = study.run(seed)
            seconds = round(time.perf_counter() - begin, 1)
            found = results.add({**key, "scores": scores, "seconds": seconds, **where()})
        lines.append(found)
        say(f"{case}: {name}, run {place + 1} of {runs}, {_said(found['scores'])}")
    return summary(case, name, study, lines)


def _said(scores: dict) -> str:
    return "extracted" if scores["extracted"] else f"{scores['hamming']:.0%} of the secret wrong"


def summary(case: str, name: str, study: Study, lines: list[dict]) -> dict:
    """The results of all runs of one defence."""
    scores = [line["scores"] for line in lines]
    found: dict = {}
    for count, attack in _COUNTS.items():
        values = [one[count] for one in scores if count in one]
        if values:
            rate = clopper_pearson(sum(values), len(values))._asdict()
            found[attack] = {"extracted": sum(values), **rate}
    for mean in _MEANS:
        values = [one[mean] for one in scores if mean in one]
        middle = np.median if mean == "exposure_fit" else np.mean  # a fit may say any number
        found[mean] = float(middle(values)) if values else None
    template = study.template
    return row(
        BENCH,
        case,
        name,
        **found,
        chance=1 / template.codes,
        chance_hamming=1 - 1 / len(template.vocabulary),
        epsilon=scores[0]["epsilon"],
        steps=float(np.mean([one["steps"] for one in scores])),
        runs=len(lines),
        seconds=sum(line["seconds"] for line in lines),
        device=lines[0]["device"],
        jax=lines[0]["jax"],
    )


def print_table(rows: list[dict]) -> None:
    """The rows for eyes, as Markdown."""
    head = ("case", "defence", "runs", "inversion", "exhaustive", "wrong places", "exposure, bits")
    lines = [
        [
            *(one["case"], one["rival"], str(one["runs"])),
            *(_counted(one.get(attack)) for attack in _COUNTS.values()),
            shown(one["hamming"], ".2f"),
            shown(one["exposure"], ".1f"),
            shown(one["slot_f1"], ".3f"),
            shown(one["steps"], ".0f"),
        ]
        for one in rows
    ]
    print_markdown((*head, "slot F1", "steps"), lines)


def _counted(rate: dict | None) -> str:
    if rate is None:
        return ""
    return f"{rate['extracted']} ({rate['value']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}])"


def parsed(arguments):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", help=f"pattern-words-copies; by default {','.join(CASES)}")
    parser.add_argument("--defences", help=f"of {', '.join(DEFENCES)}; for every case")
    parser.add_argument(
        "--runs",
        type=int,
        default=40,
        help="of the first case without and with all defences; a quarter as many for each other "
        "defence, a tenth for other cases; with --defences, of everything",
    )
    parser.add_argument("--out", type=Path, help="file of JSON lines, one a run")
    parser.add_argument("--quick", action="store_true", help="generated rows, two runs, few steps")
    chosen = parser.parse_args(arguments)
    names = (chosen.cases or (HEADLINE if chosen.quick else ",".join(CASES))).split(",")
    try:
        chosen.cases = {name: case_of(name) for name in names}
    except (ValueError, TypeError) as error:
        parser.error(f"--cases must be of pattern-words-copies, got {names}: {error}")
    chosen.defences = chosen.defences.split(",") if chosen.defences else None
    unknown = [name for name in chosen.defences or () if name not in DEFENCES]
    if unknown:
        parser.error(f"--defences must be of {', '.join(DEFENCES)}, got {unknown[0]!r}")
    if chosen.runs < 1:
        parser.error(f"--runs must be at least 1, got {chosen.runs}")
    chosen.runs = min(chosen.runs, 2) if chosen.quick else chosen.runs
    return chosen


def case_of(name: str) -> Case:
    """The case that a name like "call-4-10" stands for."""
    pattern, length, repetitions = name.split("-")
    case = Case(pattern, int(length), int(repetitions))
    make_template(case.pattern, case.length)
    if case.repetitions < 1:
        raise ValueError(f"copies must be at least 1, got {case.repetitions}")
    return case


def main(arguments=None) -> int:
    """Runs the bench."""
    chosen = parsed(arguments)
    results, experiment = Results(chosen.out), QUICK if chosen.quick else Experiment()
    data = read_data(experiment, quick=chosen.quick)

    @functools.cache
    def study(case, name):
        return Study(data, experiment, chosen.cases[case], DEFENCES[name])

    rows = [
        measure(case, name, runs, study(case, name), results)
        for case, name, runs in plan_of_runs(chosen)
    ]
    print_table(rows)
    print_rows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
