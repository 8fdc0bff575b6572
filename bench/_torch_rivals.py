"""PyTorch without privacy, and Opacus with hooks and with ghost clipping, in this process.

    python bench/_torch_rivals.py FOLDER --cases mlp,bert --threads 2

`step_time.py` calls it, with a folder that holds CASE.npz. A call is a forward and a backward pass,
up to the gradient of the mean loss or the sum of clipped gradients: no noise, no optimizer.
Clearing the last gradients is outside the clock. Each sum is compared with trustml's in that file,
by the same weights.
"""

import argparse
import platform
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import opacus
import torch
from _timing import Program, interleaved, print_rows, row, timed_row
from _torch_cases import build, tensors
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

# What Opacus raises where it does not support a network.
REFUSALS = (NotImplementedError, ValueError, RuntimeError, KeyError, AttributeError)


def plain(net, units, clip_norm) -> tuple[Program, object]:
    """The gradient of the mean loss."""
    del clip_norm
    clear = lambda: net.zero_grad(set_to_none=True)  # noqa: E731
    return Program(lambda _: net(units).mean().backward(), clear), net


def hooks(net, units, clip_norm) -> tuple[Program, object]:
    """Opacus' per-example gradients, clipped and summed by its optimizer."""
    private = GradSampleModule(net, loss_reduction="mean")
    optimizer = DPOptimizer(torch.optim.SGD(_trained(net), lr=0.1), **_options(net, clip_norm))

    def call(_):
        private(units).mean().backward()
        optimizer.clip_and_accumulate()

    return Program(call, lambda: optimizer.zero_grad(set_to_none=True)), net


def ghost(net, units, clip_norm) -> tuple[Program, object]:
    """Opacus' ghost clipping: norms in one backward pass, the clipped sum in another."""
    private = GradSampleModuleFastGradientClipping(
        net, max_grad_norm=clip_norm, use_ghost_clipping=True, loss_reduction="mean"
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(_trained(net), lr=0.1), **_options(net, clip_norm)
    )

    def call(_):
        losses = private(units)
        DPTensorFastGradientClipping(private, optimizer, losses, "mean").backward()
        optimizer.accumulate()

    return Program(call, lambda: optimizer.zero_grad(set_to_none=True)), net


def _trained(net):
    return [value for value in net.parameters() if value.requires_grad]


def _options(net, clip_norm):
    return {"noise_multiplier": 0.0, "max_grad_norm": clip_norm, "expected_batch_size": 1}


LIGHT = {"torch plain": plain, "torch null": plain, "opacus ghost": ghost}
HEAVY = {"torch plain": plain, "opacus hooks": hooks}  # apart: what they allocate slows the others


def measure(case: str, arrays: dict[str, np.ndarray], *, heavy: bool, rounds: int) -> list[dict]:
    """The rows of a case in this process."""
    rows = _measure(case, arrays, LIGHT, rounds)
    if heavy:
        rows += _measure(case, arrays, HEAVY, max(2, rounds // 4))[1:]
    versions = {"torch": torch.__version__, "opacus": opacus.__version__}
    place = {"device": f"cpu {platform.machine()}", "jax": None, **versions}
    return [{**one, **place, "threads": torch.get_num_threads()} for one in rows]


def _measure(case, arrays, rivals, rounds):
    weights, units = _part(arrays, "params"), tensors(_part(arrays, "units"))
    programs, rows = {}, {}
    for name, rival in rivals.items():
        of_opacus = name.startswith("opacus")
        net = build(case, weights, opacus=of_opacus)
        try:
            program, net = rival(net, units, float(arrays["clip_norm"]))
            program.call(program.prepare())
        except REFUSALS as error:
            if not of_opacus:
                raise
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            rows[name] = row("step_time", case, name, note=f"refuses: {reason}")
            continue
        programs[name] = program
        rows[name] = {"error": _error(net, arrays) if of_opacus else None}
    times = interleaved(programs, rounds)
    for name, program in programs.items():
        timed = timed_row("step_time", case, name, program, times[name], times["torch plain"])
        rows[name] = {**timed, **rows[name]}
    return list(rows.values())


def _part(arrays, kind):
    return {
        name.removeprefix(f"{kind}/"): array
        for name, array in arrays.items()
        if name.startswith(f"{kind}/")
    }


def _error(net, arrays) -> float:
    """Distance of the clipped sums from trustml's over the norm of those."""
    found, sums = dict(net.named_parameters()), _part(arrays, "sums")
    apart = whole = 0.0
    for leaf in net.names:
        if leaf.jax not in sums:
            continue
        theirs, ours = leaf.to_jax(found[leaf.torch].summed_grad, sums[leaf.jax]), sums[leaf.jax]
        apart += float(np.sum(np.square(theirs - ours, dtype=np.float64)))
        whole += float(np.sum(np.square(ours, dtype=np.float64)))
    return float(f"{(apart / whole) ** 0.5:.2g}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", required=True)
    parser.add_argument("--heavy", action="store_true", help="with hooks, too")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    warnings.filterwarnings("ignore", message="Full backward hook is firing")  # once a layer
    for case in chosen.cases.split(","):
        with np.load(chosen.folder / f"{case}.npz") as file:
            arrays = dict(file)
        print_rows(measure(case, arrays, heavy=chosen.heavy, rounds=chosen.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
