"""The same GPT-2 in PyTorch by transformers, in this process.

    python bench/_transformers_rival.py FOLDER --case batch8 --threads 2

`generation.py` calls it, with a folder that holds model/ (config.json and weights) and case.npz
(prompts and the tokens that trustml wrote).
"""

import argparse
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
import transformers
from _timing import Program, interleaved, print_rows, timed_row


def measure(folder: Path, case: str, rounds: int) -> dict:
    """The row of a case."""
    with np.load(folder / "case.npz") as file:
        prompts, ours = torch.from_numpy(file["prompts"]), file["tokens"]
    model = transformers.GPT2LMHeadModel.from_pretrained(folder / "model").eval()
    new = ours.shape[1]
    # No token ends a sequence: both sides write as many.
    options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "use_cache": True}
    options |= {"eos_token_id": None, "pad_token_id": 0}
    mask = torch.ones_like(prompts)

    def written(_=None):
        with torch.inference_mode():
            return model.generate(prompts, attention_mask=mask, **options)

    program = Program(written)
    times = interleaved({"transformers": program}, rounds)["transformers"]
    theirs = written()[:, prompts.shape[1] :].numpy()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {
        **timed_row("generation", case, "transformers", program, times, times),
        **{"device": f"cpu {platform.machine()}", "jax": None, "note": None},
        **versions,
        "threads": torch.get_num_threads(),
        "same_tokens": bool(np.array_equal(theirs, ours)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--case", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print_rows([measure(chosen.folder, chosen.case, chosen.rounds)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
