"""Train a joint intent-and-slot model privately, beside its non-private baseline."""

import argparse
import math
from pathlib import Path

from trustml.cli.config import TrainConfig
from trustml.cli.options import add_output, count, number, show_json, show_table

DESCRIPTION = """\
Trains a joint intent-and-slot model with differential privacy, and the same model without, on the
same data; prints claimed epsilon, utility and step time side by side, and writes report.json and
metrics.jsonl. With no arguments it uses a synthetic corpus that the package generates itself.

The guarantee covers the private weights and nothing else: metrics, the baseline and this report
are private quantities."""

EXAMPLES = """\
examples:
  trustml train
  trustml train --data snips --data-dir DATA --epsilon 3 --repeats 3 --seed 0
  trustml train --data snips --download --epsilon 8 --out runs/snips-8 --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `trustml train`."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data", default="synthetic", help="synthetic or snips; default: %(default)s"
    )
    data.add_argument("--data-dir", type=Path, help="folder that holds snips/; else TRUSTML_DATA")
    data.add_argument("--download", action="store_true", help="fetch the data from its publisher")
    data.add_argument("--on", default="test", help="judge on the test or the valid part")

    model = parser.add_argument_group("model")
    model.add_argument("--preset", help="settings to start from; by default those of the data")
    model.add_argument("--model", help="conv, bilstm or transformer")
    model.add_argument(
        "--pretrain",
        action=argparse.BooleanOptionalAction,
        help="start from weights trained on generated rows, which are nobody's",
    )

    privacy = parser.add_argument_group("privacy")
    privacy.add_argument("--epsilon", type=number, help="budget; default: the preset's")
    privacy.add_argument("--delta", type=number, help="budget; default: the preset's")
    privacy.add_argument("--clip-norm", type=number, help="bound of one utterance's gradient")
    privacy.add_argument("--clipping", default="flat", help="flat or automatic")
    privacy.add_argument(
        "--sampling", default="poisson", help="poisson, truncated_poisson or fixed"
    )
    privacy.add_argument("--adjacency", default="add-or-remove-one", help="or replace-one")
    privacy.add_argument("--accountant", default="pld", help="pld or rdp")

    training = parser.add_argument_group("training")
    training.add_argument("--batch", type=count, help="utterances per private step on average")
    training.add_argument("--steps", type=count, help="private steps")
    training.add_argument("--learning-rate", type=number, help="of the private run")
    training.add_argument("--strategy", default="auto", help="auto, bookkeeping, ghost or vmap")
    training.add_argument("--microbatch", type=count, help="utterances computed at a time")
    training.add_argument(
        "--baseline",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="train without privacy too",
    )
    training.add_argument("--baseline-steps", type=count, help="steps of the baseline")
    training.add_argument("--repeats", type=count, default=1, help="runs, with a mean over them")

    output = parser.add_argument_group("randomness and output")
    output.add_argument(
        "--seed",
        type=int,
        help="makes the run repeatable, and voids the promise for who guesses it",
    )
    output.add_argument("--out", type=Path, help="new folder; default: the next free runs/DATA-N")
    output.add_argument("--quiet", action="store_true", help="no progress")
    add_output(output)


def run(chosen: argparse.Namespace) -> int:
    """Trains, prints and writes."""
    from trustml.cli.training_run import train_and_report

    report, folder = train_and_report(TrainConfig.from_arguments(chosen))
    if chosen.json:
        show_json(report)
        return 0
    _show(report)
    print(f"\nWritten to {folder}: report.json, metrics.jsonl (private quantities).")
    return 0


def _show(report) -> None:
    rows = []
    for name, side in report["results"].items():
        rows.append(
            [
                name,
                "none" if side["epsilon"] is None else f"{side['epsilon']:.3f}",
                _estimate(side["intent_accuracy"], 100, "%"),
                _estimate(side["slot_f1"], 1, ""),
                f"{side['step_ms']:.0f} ms",
                f"{side['train_seconds']:.0f} s",
            ]
        )
    data = report["data"]
    kind = "synthetic " if data["synthetic"] else ""
    show_table(
        f"{kind}{data['name']}: {data['train']} utterances, judged on {data['judged_on']} "
        f"({data['judged']}); step time at a batch of {report['step_batch']}",
        [
            "training",
            f"epsilon (delta {report['plan_delta']:g})",
            "intent accuracy",
            "slot F1",
            "step",
            "training took",
        ],
        rows,
    )
    print(report["statement"])
    for note in report["notes"]:
        print(f"Note: {note}")


def _estimate(estimate, scale, mark) -> str:
    value = f"{scale * estimate['value']:.{1 if scale == 100 else 3}f}{mark}"
    low, high = estimate["low"], estimate["high"]
    if low is None or math.isnan(low):
        return value
    digits = 1 if scale == 100 else 3
    return f"{value} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"
