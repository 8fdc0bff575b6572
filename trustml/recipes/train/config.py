"""The settings of `trustml train`."""

from collections.abc import Iterable

from trustml.clipping.gradient import STRATEGIES
from trustml.data.rows import TASKS
from trustml.recipes.settings import Settings, knob, names_of, settings
from trustml.training.checks import AUTO

_DATA, _MODEL, _PRIVACY, _TRAINING, _AUDIT, _RUN = (
    "data",
    "model",
    "privacy",
    "training",
    "audit",
    "run",
)


@settings
class TrainConfig(Settings):
    """What to train, on which data, within which budget; None takes the value of the preset.

    >>> config = TrainConfig(task="classify", data="ag_news", epsilon=3.0)
    >>> config.epsilon, config.repeats
    (3.0, 1)
    """

    task: str | None = knob(
        None, f"{', '.join(TASKS[:-1])} or {TASKS[-1]}", _DATA, shown="that of the data"
    )
    data: str | None = knob(
        None,
        "file of your own rows (.csv, .tsv, .jsonl, .parquet, .conll, .txt, .npz, or a folder of "
        "datasets), or name of a data set",
        _DATA,
        shown="one for the task, synthetic for none",
    )
    text: str | None = knob(
        None,
        "column of the text of your own file",
        _DATA,
        shown="guessed where that is safe",
        of_own=True,
    )
    label: str | None = knob(
        None,
        "column of the label of your own file",
        _DATA,
        shown="guessed where that is safe",
        of_own=True,
    )
    labels: tuple[str, ...] | None = knob(
        None,
        "every label that may occur, a public list with commas between, or a file with one a line",
        _DATA,
        commas=True,
        shown="those of the file, assumed public",
        metavar="LABELS",
        of_own=True,
    )
    value_range: tuple[float, ...] | None = knob(
        None,
        "public ends of the numbers of regression, such as 0,5; others are clipped to them",
        _DATA,
        commas=True,
        flag="--range",
        metavar="LOW,HIGH",
        of_own=True,
    )
    schema: str | None = knob(
        None,
        "TOML file of a table: ranges, categories and classes, all public (`trustml data schema` "
        "prints one to fill in)",
        _DATA,
        metavar="FILE",
        of_own=True,
    )
    learn_schema: float | None = knob(
        None,
        "part of epsilon that learns what the schema of a table leaves open",
        _DATA,
        metavar="EPSILON",
        of_own=True,
    )
    group: str | None = knob(
        None,
        "column of groups of your own file, whose figures the report compares",
        _DATA,
        of_own=True,
    )
    stratify: bool = knob(
        False, "give every part of your own file its share of a label", _DATA, of_own=True
    )
    skip_bad_rows: bool = knob(
        False,
        "leave out rows of your own file that cannot be used, and count them",
        _DATA,
        of_own=True,
    )
    data_dir: str | None = knob(
        None,
        "folder that holds a folder for each data set",
        _DATA,
        shown="TRUSTML_DATA",
        metavar="FOLDER",
        on_resume=True,
    )
    download: bool = knob(False, "fetch the data from its publisher", _DATA, on_resume=True)
    eval_split: str | float = knob(
        "test",
        "evaluate on the test or the valid part; of your own file, on a share such as 0.1, or on "
        "the rows of another file",
        _DATA,
        shown="test; of your own file its test split, or else a tenth",
        metavar="PART",
    )

    preset: str | None = knob(
        None, "settings to start from", _MODEL, shown="those of the data, or of the task"
    )
    model: str | None = knob(
        None,
        "conv, bilstm or transformer on hashed words; mini-bert, mini-gpt2 or mini-bart; minilm or "
        "smollm2; or the folder, GGUF file or name of a pretrained model (bert, distilbert, "
        "roberta, bart, gpt2, llama, mistral, qwen2, qwen3, gemma)",
        _MODEL,
        on_resume=True,
        of_cell=True,
    )
    trainable: str | None = knob(
        None,
        "trained weights: features (a head on frozen features: the most accurate in what was "
        "measured on CPUs), all, lora, bitfit, last-K, or a pattern of names",
        _MODEL,
        shown="features of an encoder to classify or to tag, else all",
    )
    start: str | None = knob(
        None,
        "finished run of `--trainable features` whose private head training starts from; its "
        "epsilon is a part of this one's",
        _MODEL,
        metavar="RUN",
    )
    feature_cache: str | None = knob(
        None,
        "folder that keeps computed features for later runs, for its owner alone: features of "
        "private rows are private",
        _MODEL,
        shown="memory",
        metavar="FOLDER",
        on_resume=True,
    )
    max_length: int | None = knob(
        None, "largest number of words or tokens of a row", _MODEL, least=1
    )
    pretrain: bool | None = knob(
        None, "start from weights trained on generated rows or on public text", _MODEL
    )

    epsilon: float | None = knob(
        None, "privacy budget", _PRIVACY, shown="the preset's", of_cell=True
    )
    delta: float | None = knob(None, "privacy budget", _PRIVACY, shown="the preset's")
    unit: str | None = knob(
        None,
        "privacy unit: a row, or what rows share: user, or a column of your own file",
        _PRIVACY,
        shown="a row",
    )
    max_examples_per_unit: int | None = knob(
        None, "largest number of training examples of one unit", _PRIVACY, least=1
    )
    clip_norm: float | None = knob(None, "largest l2 norm of one unit's gradient", _PRIVACY)
    clipping: str = knob("flat", "flat, automatic or automatic_v", _PRIVACY, of_cell=True)
    bounds: str = knob("flat", "flat, or one bound for each layer or block", _PRIVACY, of_cell=True)
    clip_quantile: float | None = knob(
        None, "adapt bounds to this quantile of the gradient norms", _PRIVACY, of_cell=True
    )
    num_microbatches: int = knob(
        0,
        "microbatches whose mean gradients are clipped instead of units' (eDP-SGD)",
        _PRIVACY,
        least=0,
        of_cell=True,
    )
    noise: str = knob(
        "independent",
        "independent, discrete_gaussian, tree, toeplitz, banded or blt",
        _PRIVACY,
        of_cell=True,
    )
    noise_memory: int = knob(
        0,
        "copies of the weights that banded or blt noise keeps",
        _PRIVACY,
        least=0,
        of_cell=True,
    )
    noise_decay: float = knob(
        1.0, "factor on the noise from epoch to epoch", _PRIVACY, of_cell=True
    )
    sampling: str = knob(
        "poisson",
        "poisson, truncated_poisson, fixed, cyclic_poisson, balls_in_bins or shuffled",
        _PRIVACY,
        of_cell=True,
    )
    cycle_length: int | None = knob(
        None,
        "groups of cyclic_poisson",
        _PRIVACY,
        least=1,
        shown="steps of an epoch",
        of_cell=True,
    )
    adjacency: str = knob(
        "add-or-remove-one", "add-or-remove-one or replace-one", _PRIVACY, of_cell=True
    )
    accountant: str = knob("pld", "pld or rdp", _PRIVACY)

    batch: int | None = knob(None, "units per private step on average", _TRAINING, least=1)
    steps: int | None = knob(None, "private steps", _TRAINING, least=1)
    learning_rate: float | None = knob(None, "peak learning rate of the private arm", _TRAINING)
    schedule: str | None = knob(None, "cosine, linear or constant, after the warm-up", _TRAINING)
    warmup: int | None = knob(None, "steps of rising learning rate", _TRAINING, least=0)
    strategy: str = knob(
        "auto", f"how gradients are clipped: {', '.join(STRATEGIES)}", _TRAINING, on_resume=True
    )
    physical_batch_size: int | str = knob(
        AUTO,
        "units computed at a time; auto takes what fits in memory, on a CPU 256 at most",
        _TRAINING,
        least=1,
        on_resume=True,
        metavar="N",
    )
    evaluate_every: int | None = knob(
        None, "steps between evaluations", _TRAINING, least=1, shown="a tenth of all"
    )
    patience: int | None = knob(
        None,
        "stop after so many evaluations on generated rows without a new best",
        _TRAINING,
        least=1,
        of_cell=True,
    )
    baseline: bool = knob(True, "train without privacy too", _TRAINING)
    baseline_steps: int | None = knob(None, "steps of the baseline", _TRAINING, least=1)
    baseline_learning_rate: float | None = knob(
        None, "peak learning rate of the baseline", _TRAINING
    )
    repeats: int = knob(1, "runs, with a mean over them", _TRAINING, least=1, of_cell=True)
    seed: int | None = knob(
        None,
        "makes the run repeatable, but voids the guarantee against whoever guesses it; two runs "
        "with one seed reveal to anybody how their data differ",
        _TRAINING,
        least=0,
    )

    audit_rows: int | None = knob(
        None,
        "units that fair coins put in or leave out, for attacks; 0 for none",
        _AUDIT,
        least=0,
        shown="a tenth, 1000 at most",
    )
    audit: bool = knob(
        False,
        "audit epsilon with canaries in the private training too: half of the audit rows get a "
        "wrong label (of classes and intents), and gradients of fixed size join the training",
        _AUDIT,
        of_cell=True,
    )
    audit_canaries: int | None = knob(
        None, "gradient canaries of --audit", _AUDIT, least=0, shown="1000"
    )

    checkpoint_every: float = knob(
        60.0, "seconds between checkpoints", _RUN, least=0, on_resume=True
    )
    save_baseline: bool = knob(
        False, "keep the baseline's weights, a private quantity", _RUN, of_cell=True
    )


def check_changes(names: Iterable[str]) -> None:
    """Refuses changes of settings that a resumed run must keep.

    >>> check_changes(["data_dir", "strategy"])

    Args:
      names: Settings to change.

    Raises:
      ValueError: One of them is not declared with `on_resume`.
    """
    fixed = [name for name in names if name not in names_of(TrainConfig, on_resume=True)]
    if fixed:
        raise ValueError(
            f"`--{fixed[0].replace('_', '-')}` cannot go with `--resume`, which takes the settings "
            "of the run. Start a new run to change them."
        )
