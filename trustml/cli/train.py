"""Train a model on text privately, beside its non-private baseline."""

import argparse
import shlex
import sys
from pathlib import Path

from trustml.cli.options import add_output, count, number, show_json, show_table
from trustml.clipping.gradient import STRATEGIES
from trustml.recipes.train.config import TrainConfig, flags_given, read_yaml

DESCRIPTION = """\
Trains a model with differential privacy, and the same model without, on the same data; prints
claimed epsilon, utility and step time side by side, and writes a folder with the weights, the
ledger of releases, and the trust report as report.html and report.json. With no arguments it is a
joint intent-and-slot model on a synthetic corpus that the package generates itself.

The tasks: classify, tag (entities or slots), nlu (intent and slots), qa (answers in a text), lm
(text itself) and seq2seq (text to text). `trustml data list` names the data sets of each.

Whatever ends a run, `--resume` goes on with it: nothing is spent twice, and the result is the same.

The guarantee covers the private weights and nothing else: metrics, the baseline and the report
are private quantities."""

EXAMPLES = """\
examples:
  trustml train
  trustml train --data snips --data-dir DATA --epsilon 3 --repeats 3 --seed 0
  trustml train --data snips --data-dir DATA --audit
  trustml train --task classify --data ag_news --data-dir DATA --model bert-base/ --epsilon 8
  trustml train --task lm --data shakespeare_roles --unit role --max-examples-per-unit 4 --data-dir
  DATA trustml train --config run.yaml --epsilon 8 --out runs/snips-8
  trustml train --resume runs/snips-8"""

# What may change when a run goes on: where the data lie, and how (not what) a step computes. The
# latter takes a new key.
_MAY_CHANGE = (
    "model",
    "data_dir",
    "download",
    "strategy",
    "physical_batch_size",
    "checkpoint_every",
)


USAGE = "trustml train [options]"


def physical_batch_size(text: str) -> int | str:
    """A positive number of units, or "auto"."""
    return text if text == "auto" else count(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `trustml train`; those not given leave no trace."""
    _add_run(parser.add_argument_group("run"))
    _add_data(parser.add_argument_group("data"))
    _add_model(parser.add_argument_group("model"))
    _add_privacy(parser.add_argument_group("privacy"))
    _add_training(parser.add_argument_group("training"))
    _add_audit(parser.add_argument_group("audit"))


def _add(group, flag: str, words: str, **options) -> None:
    default = getattr(TrainConfig(), flag.removeprefix("--").replace("-", "_"))
    shown = "" if default in (None, False) else f"; default: {default}"
    if "action" not in options:
        options["metavar"] = _PLACES.get(options.get("type"), "NAME")
    group.add_argument(flag, help=words + shown, default=argparse.SUPPRESS, **options)


def _switch(group, flag: str, words: str) -> None:
    _add(group, flag, words, action=argparse.BooleanOptionalAction)


def _add_data(group) -> None:
    _add(group, "--task", "classify, tag, nlu, qa, lm or seq2seq; default: that of the data")
    _add(group, "--data", "name of a data set; default: one for the task, synthetic for none")
    _add(group, "--data-dir", "folder that holds a folder for each data set; else TRUSTML_DATA")
    _add(group, "--download", "fetch the data from its publisher", action="store_true")
    _add(group, "--eval-split", "judge on the test or the valid part")


def _add_model(group) -> None:
    _add(group, "--preset", "settings to start from; by default those of the data")
    words = (
        "conv, bilstm or transformer on hashed words; mini-bert, mini-gpt2 or mini-bart; or the "
        "folder or name of a pretrained model (bert, distilbert, roberta, gpt2, bart)"
    )
    _add(group, "--model", words)
    _add(group, "--trainable", "what is trained: all, lora, bitfit, last-K, or a pattern of names")
    _add(group, "--max-length", "words or pieces read of a row", type=count)
    words = "start from weights trained on generated rows or on public text"
    _switch(group, "--pretrain", words)


def _add_privacy(group) -> None:
    _add(group, "--epsilon", "budget; default: the preset's", type=number)
    _add(group, "--delta", "budget; default: the preset's", type=number)
    _add(group, "--unit", "what is protected: a row (default), or what rows share, such as user")
    _add(group, "--max-examples-per-unit", "pieces of text kept of one unit", type=count)
    _add(group, "--clip-norm", "bound of one unit's gradient", type=number)
    _add(group, "--clipping", "flat, automatic or automatic_v")
    _add(group, "--bounds", "flat, or one for each layer or block")
    _add(group, "--clip-quantile", "adapt bounds so that this part stays whole", type=number)
    _add(group, "--num-microbatches", "means to bound instead of units (eDP-SGD)", type=whole)
    _add(group, "--noise", "independent, grid, tree, toeplitz, banded or blt")
    _add(
        group, "--noise-memory", "copies of the weights that banded or blt noise keeps", type=whole
    )
    _add(group, "--noise-decay", "factor on the noise from epoch to epoch", type=number)
    words = "poisson, truncated_poisson, fixed, cyclic_poisson, balls_in_bins or shuffled"
    _add(group, "--sampling", words)
    _add(
        group, "--cycle-length", "groups of cyclic_poisson; default: steps of an epoch", type=count
    )
    _add(group, "--adjacency", "add-or-remove-one or replace-one")
    _add(group, "--accountant", "pld or rdp")


def _add_training(group) -> None:
    _add(group, "--batch", "units per private step on average", type=count)
    _add(group, "--steps", "private steps", type=count)
    _add(group, "--learning-rate", "peak of the private run", type=number)
    _add(group, "--schedule", "cosine, linear or constant, after the warm-up")
    _add(group, "--warmup", "steps of rising learning rate", type=whole)
    _add(group, "--strategy", f"how gradients are clipped: {', '.join(STRATEGIES)}")
    _add(
        group,
        "--physical-batch-size",
        "units computed at a time, or auto",
        type=physical_batch_size,
    )
    _add(group, "--evaluate-every", "steps between evaluations; default: a tenth", type=count)
    words = "stop after so many evaluations on generated rows without a new best"
    _add(group, "--patience", words, type=count)
    _switch(group, "--baseline", "train without privacy too")
    _add(group, "--baseline-steps", "steps of the baseline", type=count)
    _add(group, "--baseline-learning-rate", "peak of the baseline", type=number)
    _add(group, "--repeats", "runs, with a mean over them", type=count)
    words = (
        "makes the run repeatable, and voids the promise for who guesses it; two runs with one "
        "seed show each other's differences to anybody"
    )
    _add(group, "--seed", words, type=int)


def _add_audit(group) -> None:
    words = "units that a coin puts in or out, to attack; default: a tenth, 1000 at most; 0: none"
    _add(group, "--audit-rows", words, type=whole)
    words = (
        "audit the claim by canaries in the private training too: half of the audit rows get a "
        "wrong label (of classes and intents), and gradients of known size are carried along"
    )
    _switch(group, "--audit", words)
    _add(group, "--audit-canaries", "gradient canaries of --audit; default: 1000", type=whole)


def _add_run(group) -> None:
    group.add_argument("--config", type=Path, metavar="FILE", help="YAML file of these settings")
    group.add_argument(
        "--out", type=Path, metavar="FOLDER", help="new folder; default: the next free runs/DATA-N"
    )
    group.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with a run")
    group.add_argument(
        "--accept-charge",
        action="store_true",
        help="let a resumed run take a new key even where that charges much twice",
    )
    _add(group, "--checkpoint-every", "seconds between checkpoints", type=number)
    words = "keep the baseline's weights, a private quantity"
    _add(group, "--save-baseline", words, action="store_true")
    group.add_argument("--quiet", action="store_true", help="no progress")
    add_output(group)


def whole(text: str) -> int:
    """A whole number, zero included."""
    return 0 if text == "0" else count(text)


_PLACES = {count: "N", whole: "N", physical_batch_size: "N", int: "N", number: "X"}


def run(chosen: argparse.Namespace) -> int:
    """Trains, prints and writes."""
    from trustml.recipes.train.run import Output, new_run, resumed_run
    from trustml.report import to_json

    flags = flags_given(chosen)
    output = Output(chosen.quiet, chosen.accept_charge)
    if chosen.resume is not None:
        report, folder = resumed_run(chosen.resume, _changes(chosen, flags), output)
    else:
        file = {} if chosen.config is None else read_yaml(chosen.config)
        if chosen.config is not None:  # a wrong name there must not be blamed on the flags
            TrainConfig.from_dict(file, str(chosen.config))
        written = {**file, **flags}
        config = TrainConfig.from_dict(written, "the flags")
        command = "trustml " + shlex.join(sys.argv[1:])
        report, folder = new_run(config, written, command, chosen.out, output)
    if chosen.json:
        show_json(to_json(report))
        return 0
    show(report)
    print(f"\nIn {folder}: report.html, report.json (private quantities), the weights.")
    return 0


def _changes(chosen, flags) -> dict:
    for name in ("config", "out"):
        if getattr(chosen, name) is not None:
            raise ValueError(f"`--{name}` cannot go with `--resume`: the run has its settings.")
    fixed = [name for name in flags if name not in _MAY_CHANGE]
    if fixed:
        raise ValueError(
            f"`--{fixed[0].replace('_', '-')}` cannot go with `--resume`, which takes the settings "
            "of the run. Start a new run to change them."
        )
    return flags


def show(report) -> None:
    """Prints the table of a report, the promise and the notes."""
    from trustml.report.summary_table import summary_table

    show_table(*summary_table(report))
    print(report.privacy.statement)
    for note in report.notes:
        print(f"Note: {note}")
