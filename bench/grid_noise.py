"""What does integer noise on a grid cost, beside float noise, alone and in a private step?

    python bench/grid_noise.py           # about a minute on two cores
    python bench/grid_noise.py --quick   # tiny sizes: does it run?

"noise": a million values. "float" is `gaussian_like`; "grid 1", "grid 2" and "grid 3" are
`discrete_gaussian_like` with a law of so many tables. "step": the clipped sum of a batch of 256
on an MLP of about a million parameters, alone and with either noise; the grid and the law are
those of the plan's bound at noise multiplier 1. `ratio` is to float noise.

Expected, on two cores that other machines share (CPU, jax 0.10.2): 12 ns a value for float, 20, 30
and 52 for one, two and three tables; the step 6 ms without noise, 16 with float, 34 with grid.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from _timing import (
    compiled,
    interleaved,
    print_markdown,
    print_rows,
    say,
    say_if_busy,
    shown,
    timed_row,
    where,
)

BENCH = "grid_noise"
CASES = ("noise", "step")
STDDEVS = {"grid 1": 1e3, "grid 2": 2e5, "grid 3": 1e7}  # in steps of the grid
_BATCH, _WIDTHS = 256, (784, 768, 512, 10)  # 1.0 million parameters


def noise_programs(quick):
    """Programs that draw noise alone, and how many values they draw."""
    import jax
    import jax.numpy as jnp

    from trustml.noise import gaussian_like, key_from_seed
    from trustml.noise.discrete import discrete_gaussian, discrete_gaussian_like

    key, step = key_from_seed(0), jnp.int32(0)
    size = 2_000 if quick else 1_000_000
    like = jax.ShapeDtypeStruct((size,), jnp.float32)
    programs = {"float": compiled(lambda step: gaussian_like(like, key, step), step)}
    programs["null"] = programs["float"]
    for name, stddev in STDDEVS.items():
        law = discrete_gaussian(stddev)
        if law.levels != int(name[-1]):
            raise RuntimeError(f"{name!r} has {law.levels} tables at {stddev:g} steps of the grid")
        say(f"compiling {name}")
        draw = _drawing(discrete_gaussian_like, like, key, law)
        programs[name] = compiled(draw, step)
    return programs, size


def _drawing(draw, like, key, law):
    return lambda step: draw(like, key, step, law)


def network(quick):
    """A loss, weights and a batch of an MLP."""
    import itertools

    import jax
    import jax.numpy as jnp
    import numpy as np

    rng = np.random.default_rng(0)
    sizes = (784, 32, 16, 10) if quick else _WIDTHS
    batch = 8 if quick else _BATCH
    weights = [
        jnp.asarray(rng.normal(size=pair) / pair[0] ** 0.5, jnp.float32)
        for pair in itertools.pairwise(sizes)
    ]
    units = {
        "x": jnp.asarray(rng.normal(size=(batch, 784)), jnp.float32),
        "y": jnp.asarray(rng.integers(10, size=batch)),
    }

    def loss(weights, unit):
        x = unit["x"]
        for weight in weights[:-1]:
            x = jax.nn.relu(x @ weight)
        return -jax.nn.log_softmax(x @ weights[-1])[unit["y"]]

    return loss, weights, units


def step_programs(quick):
    """Programs that clip and sum, without noise and with either, and how many values they make."""
    import jax.numpy as jnp

    import trustml
    from trustml.noise import key_from_seed
    from trustml.noise.discrete import as_private_as
    from trustml.noise.grid import add_discrete_noise, grid_sensitivity, grid_spacing
    from trustml.noise.transform import add_noise

    loss, weights, units = network(quick)
    clipped = trustml.clipped_grad(loss, clip_norm=1.0)
    dimension = float(sum(weight.size for weight in weights))
    spacing = grid_spacing(1.0, dimension)
    law = as_private_as(grid_sensitivity(1.0, spacing, dimension) / spacing)
    say(f"grid 2^{spacing.hex().split('p')[1]}, {law}, distance {law.distance:.1e} a value")
    key, step = key_from_seed(0), jnp.int32(0)

    def none(weights, units, step):
        return clipped(weights, units)[0]

    def by_float(weights, units, step):
        return add_noise(none(weights, units, step), 1.0, key, step)

    def by_grid(weights, units, step):
        return add_discrete_noise(none(weights, units, step), spacing, law, key, step)

    programs = {}
    for name, function in {"float": by_float, "none": none, "grid": by_grid}.items():
        say(f"compiling a step with noise: {name}")
        programs[name] = compiled(function, weights, units, step)
    programs["null"] = programs["float"]
    return programs, int(dimension)


def rows_of(case, chosen):
    """One row a program."""
    programs, values = {"noise": noise_programs, "step": step_programs}[case](chosen.quick)
    measured = interleaved(programs, 2 if chosen.quick else chosen.rounds)
    rows = []
    for name, program in programs.items():
        timed = timed_row(
            BENCH, f"{case} {values}", name, program, measured[name], measured["float"]
        )
        each = round(timed["median_ms"] * 1e6 / values, 2)
        rows.append({**timed, "ns_per_value": each, **where()})
    return rows


def parsed(arguments):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args(arguments)
    chosen.names = chosen.cases.split(",")
    unknown = [name for name in chosen.names if name not in CASES]
    if unknown:
        parser.error(f"--cases must be of {', '.join(CASES)}, got {unknown[0]!r}")
    return chosen


def main(arguments=None) -> int:
    """Runs the bench."""
    chosen = parsed(arguments)
    say_if_busy()
    rows = [row for case in CASES if case in chosen.names for row in rows_of(case, chosen)]
    names = ("median_ms", "ns_per_value", "ratio")
    cells = [[row["case"], row["rival"], *(shown(row[n], "g") for n in names)] for row in rows]
    print_markdown(["case", "noise", *names], cells)
    print_rows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
