"""How many tokens a second does a frozen encoder read, here and by torch with the same weights?

    python bench/features.py                   # MiniLM: about 6 minutes on two cores
    python bench/features.py --cases snips --rows 1000
    python bench/features.py --quick           # tiny sizes: does it run?

The first texts of a data set become vectors, in float32. All rivals run in one process on all
cores, one after the other in each round: `SentenceEncoder.embed`; sentence-transformers' own
`encode` with its batches of 32; and torch in batches of 128 rows that are sorted by length. The
clock takes the tokenizer too. Tokens are those that the texts hold, without padding. `ratio` is
the time over that of torch in the same round; at most 1.11 is at least 0.9 of its rate. CPU
seconds are those of all threads, which a busy machine changes less than the time. `first_s` is the
first call of a fresh process, with its compilations. Needs the extra `encoder`, with
sentence-transformers and torch for the rivals.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
    say,
    say_if_busy,
    shown,
    timed_row,
    where,
)

from trustml.data import load
from trustml.models import ModelConfig, SentenceEncoder, TextTokenizer
from trustml.models.pretrained.hub import find_model
from trustml.models.pretrained.saving import save_pretrained
from trustml.models.transformers.language import build_language_model

BENCH = "features"
CASES = ("clinc150", "snips")
RIVALS = ("trustml", "sentence-transformers", "torch")
MISSING = "not installed: pip install sentence-transformers"
SORTED_ROWS = 128


def measure(case: str, folder: Path, *, data: str, rows: int, rounds: int) -> list[dict]:
    """The rows of a case."""
    texts = [_text(one) for one in load(data).train.rows[:rows]]
    encoder = SentenceEncoder.from_folder(folder)
    tokens = sum(len(one.ids) for one in encoder.tokenizer.encode_batch(texts, encoder.max_length))
    calls: dict[str, Callable[[], Any]] = {"trustml": lambda: encoder.embed(texts)}
    start = time.perf_counter()
    calls["trustml"]()
    first = time.perf_counter() - start
    calls |= _rivals(folder, texts)
    vectors = {name: call() for name, call in calls.items()}
    clocks = {name: _Clock(call) for name, call in calls.items()}
    programs = {name: Program(clock) for name, clock in clocks.items()}
    times = interleaved(programs, rounds)
    found = []
    for name in RIVALS:
        if name not in times:
            found.append(row(BENCH, case, name, note=MISSING, **_no_figures(), **where()))
            continue
        base = times.get("torch", times[name])
        one = timed_row(BENCH, case, name, programs[name], times[name], base) | where()
        cpu = statistics.median(clocks[name].seconds[1:])  # the first round warms up
        apart = float(np.abs(np.asarray(vectors[name]) - vectors["trustml"]).max())
        one |= {"note": None, "threads": cores(), "rows": len(texts), "tokens": tokens}
        one |= {"tokens_per_s": round(1e3 * tokens / one["median_ms"], 1), "cpu_s": round(cpu, 3)}
        one |= {"tokens_per_cpu_s": round(tokens / cpu, 1), "max_difference": apart}
        one |= {"first_s": round(first, 2) if name == "trustml" else None}
        one |= {"ratio": one["ratio"] if "torch" in times else None}
        found.append(one)
    return found


class _Clock:
    """A call that notes its CPU seconds."""

    def __init__(self, call: Callable[[], Any]):
        self.call, self.seconds = call, []

    def __call__(self, _: Any) -> Any:
        start = time.process_time()
        result = self.call()
        self.seconds.append(time.process_time() - start)
        return result


def _no_figures() -> dict[str, None]:
    return dict.fromkeys(("tokens_per_s", "cpu_s", "tokens_per_cpu_s", "max_difference", "first_s"))


def _text(one: Any) -> str:
    return one.text if hasattr(one, "text") else " ".join(one.tokens)


def _rivals(folder: Path, texts: Sequence[str]) -> dict[str, Callable[[], Any]]:
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return {}
    torch.set_num_threads(cores())
    model = SentenceTransformer(str(folder), device="cpu")
    own, tokenizer = model[0].auto_model.eval(), model[0].tokenizer

    def by_torch() -> np.ndarray:
        ids = tokenizer(list(texts), truncation=True, max_length=model.max_seq_length)["input_ids"]
        order = np.argsort([-len(one) for one in ids], kind="stable")
        out = np.empty((len(texts), own.config.hidden_size), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), SORTED_ROWS):
                rows = order[start : start + SORTED_ROWS]
                unit = tokenizer.pad({"input_ids": [ids[n] for n in rows]}, return_tensors="pt")
                states = own(**unit).last_hidden_state
                mask = unit["attention_mask"][..., None].to(states.dtype)
                mean = (states * mask).sum(1) / mask.sum(1)
                out[rows] = torch.nn.functional.normalize(mean).numpy()
        return out

    return {
        "sentence-transformers": lambda: model.encode(list(texts), show_progress_bar=False),
        "torch": by_torch,
    }


def _tiny(folder: Path) -> Path:
    """A folder of a tiny encoder with random weights."""
    tokenizer = TextTokenizer.train(["show me a flight"], vocab_size=80, kind="wordpiece")
    config = ModelConfig(
        model_type="bert",
        vocab_size=80,
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        intermediate_size=32,
        max_positions=64,
        type_vocab_size=2,
    )
    network = build_language_model(config, "mlm")
    save_pretrained(
        folder, (network, config, network.init(jax.random.key(0))), tokenizer, head="mlm"
    )
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    listed = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    pooling = '{"word_embedding_dimension": 16, "pooling_mode_mean_tokens": true}'
    (folder / "1_Pooling" / "config.json").write_text(pooling)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 48}')
    return folder


def print_table(rows: list[dict]) -> None:
    """The rows for eyes, as Markdown."""
    head = ("case", "rival", "s", "tokens/s", "CPU s", "tokens/CPU s", "x torch", "first s", "note")
    lines = []
    for one in rows:
        seconds = one["median_ms"] and one["median_ms"] / 1e3
        figures = [shown(seconds, ".2f"), shown(one["tokens_per_s"], ",.0f")]
        figures += [shown(one["cpu_s"], ".2f"), shown(one["tokens_per_cpu_s"], ",.0f")]
        figures += [shown(one["ratio"], ".2f"), shown(one["first_s"], ".1f")]
        lines.append([one["case"], one["rival"], *figures, one["note"] or ""])
    print_markdown(head, lines)


def main(arguments=None) -> int:
    """Runs the bench."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--rows", type=int, default=2000, help="texts of a data set")
    parser.add_argument("--rounds", type=int, help="3; with --quick 2")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, generated texts")
    chosen = parser.parse_args(arguments)
    names = chosen.cases.split(",")
    unknown = [name for name in names if name not in CASES]
    if unknown:
        parser.error(f"--cases must be of {', '.join(CASES)}, got {unknown[0]!r}")
    say_if_busy()
    rounds = chosen.rounds or (2 if chosen.quick else 3)
    found: list[dict] = []
    with tempfile.TemporaryDirectory() as made:
        folder = _tiny(Path(made) / "tiny") if chosen.quick else find_model("minilm")
        for name in names:
            data, rows = ("synthetic", 40) if chosen.quick else (name, chosen.rows)
            say(f"{name}: {rows} texts, {rounds} rounds")
            found += measure(name, folder, data=data, rows=rows, rounds=rounds)
    print_table(found)
    print_rows(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
