"""How many tokens a second does GPT-2 write, here and by transformers with the same weights?

    python bench/generation.py                # GPT-2 small: about 10 minutes on two cores
    python bench/generation.py --cases batch1
    python bench/generation.py --quick        # tiny sizes: does it run?

GPT-2 small with random weights continues prompts of 32 random tokens greedily by 64 tokens, in
float32, keys and values kept on both sides. The clock takes reading the prompt too.
`transformers` runs in a process of its own, on as many threads as JAX has cores, and reads the
weights that this process wrote; `same_tokens` says whether it writes the same. `over_trustml`
compares milliseconds across frameworks; there is no plain program for a `ratio`.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import jax
import numpy as np
from _timing import (
    Program,
    cores,
    interleaved,
    print_markdown,
    print_rows,
    row,
    rows_of_process,
    say,
    say_if_busy,
    shown,
    timed_row,
    where,
)

from trustml.models.pretrained.loading import save_pretrained
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.generation import generate
from trustml.models.transformers.language import build_language_model

BENCH = "generation"
CASES = {"batch1": 1, "batch2": 2, "batch8": 8}  # prompts at a time
DEFAULT = ("batch1", "batch8")
GPT2_SMALL = {
    "vocab_size": 50257,
    "hidden_size": 768,
    "num_layers": 12,
    "num_heads": 12,
    "intermediate_size": 3072,
    "max_positions": 1024,
}
TINY = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_layers": 2,
    "num_heads": 2,
    "intermediate_size": 32,
    "max_positions": 64,
}
NOT_AN_END = -1
MISSING = "not installed: pip install torch transformers"


def measure(name: str, *, quick: bool, rounds: int, threads: int) -> list[dict]:
    """Both rows of a case."""
    prompt, new = (8, 8) if quick else (32, 64)
    sizes = TINY if quick else GPT2_SMALL
    config = ModelConfig(
        model_type="gpt2", activation="gelu_new", layer_norm_eps=1e-5, eos_id=None, **sizes
    )
    network = build_language_model(config, "lm")
    params = network.init(jax.random.key(0))
    draw = np.random.default_rng(0)
    prompts = draw.integers(config.vocab_size, size=(CASES[name], prompt)).tolist()
    written = lambda _: generate(  # noqa: E731
        config, params, prompts, max_new_tokens=new, eos_id=NOT_AN_END
    )
    program = Program(written)
    times = interleaved({"trustml": program}, rounds)["trustml"]
    ours = timed_row(BENCH, name, "trustml", program, times, times) | where()
    ours |= {"threads": cores(), "note": None, "same_tokens": True}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        save_pretrained(folder / "model", (network, config, params))
        np.savez(folder / "case.npz", prompts=prompts, tokens=written(None))
        options = ["--rounds", rounds, "--threads", threads, "--case", name]
        theirs = _transformers(name, folder, options)
    for one in (ours, theirs):
        one["ratio"] = None
        one["over_trustml"] = _over(one["median_ms"], ours["median_ms"])
        one["tokens_per_s"] = one["median_ms"] and round(
            1e3 * CASES[name] * new / one["median_ms"], 2
        )
    return [ours, theirs]


def _transformers(name: str, folder: Path, options: list) -> dict:
    if any(importlib.util.find_spec(module) is None for module in ("torch", "transformers")):
        return row(BENCH, name, "transformers", device="", jax=None, note=MISSING)
    script = str(Path(__file__).with_name("_transformers_rival.py"))
    (found,) = rows_of_process(script, folder, *options)
    return found


def _over(mine: float | None, base: float) -> float | None:
    return None if mine is None else round(mine / base, 4)


def print_table(rows: list[dict]) -> None:
    """The rows for eyes, as Markdown."""
    head = ("case", "rival", "ms", "tokens/s", "x trustml", "same tokens", "note")
    lines = []
    for one in rows:
        figures = [shown(one[name], ".1f") for name in ("median_ms", "tokens_per_s")]
        figures.append(shown(one["over_trustml"], ".2f"))
        same = {True: "yes", False: "no", None: ""}[one.get("same_tokens")]
        lines.append([one["case"], one["rival"], *figures, same, one["note"] or ""])
    print_markdown(head, lines)


def main(arguments=None) -> int:
    """Runs the bench."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(DEFAULT), help=f"of {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--rounds", type=int, help="5; with --quick 2")
    chosen = parser.parse_args(arguments)
    names = chosen.cases.split(",")
    unknown = [name for name in names if name not in CASES]
    if unknown:
        parser.error(f"--cases must be of {', '.join(CASES)}, got {unknown[0]!r}")
    say_if_busy()
    found: list[dict] = []
    rounds = chosen.rounds or (2 if chosen.quick else 5)
    for name in names:
        say(f"{name}: {rounds} rounds")
        threads = 1 if chosen.quick else cores()
        found += measure(name, quick=chosen.quick, rounds=rounds, threads=threads)
    print_table(found)
    print_rows(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
