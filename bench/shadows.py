"""What is gained by training shadow models side by side?

    python bench/shadows.py                  # about 3 minutes on two cores
    python bench/shadows.py --cases mlp --models 16
    python bench/shadows.py --quick          # tiny sizes: does it run?

The same models, three ways: `together`, one compiled program for all of them, as `train_shadows`
runs it; `one by one`, the same program for a single model, called for each; `step by step`, as
scripts do it, a compiled step called from Python for every step of every model. `together on N
devices` runs in a process of its own, where JAX is told to split the cores into that many devices.
Compile time is apart. `ratio` is to `one by one` in the same round (and process), `speedup` its
inverse.

Expected: bench/README.md holds the table last measured, with device and versions.
"""

import argparse
import functools
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _cases.base import cross_entropy
from _timing import (
    Program,
    compiled,
    cores,
    interleaved,
    print_markdown,
    print_rows,
    rows_of_process,
    say,
    say_if_busy,
    timed_row,
    where,
)

from trustml import PrivacyPlan
from trustml.audit.attacks.recipe import Recipe, train_models
from trustml.audit.attacks.shadows import train_shadows

BENCH = "shadows"
ROWS, INPUTS, CLASSES = 1_797, 64, 10  # scikit-learn's digits, in size
# Units of the hidden layer, units of a batch, whether private.
CASES = {"mlp": (32, 64, False), "mlp-16": (32, 16, False), "mlp-private": (32, 64, True)}
FLAG = "--xla_force_host_platform_device_count"


def recipe_of(name: str, steps: int) -> Recipe:
    """A network of one hidden layer, and how it is trained."""
    hidden, batch, private = CASES[name]

    def init(key):
        values = jax.random.normal(key, (hidden, INPUTS + CLASSES)) / 8
        return {
            "in": values[:, :INPUTS].T,
            "shift": jnp.zeros(hidden),
            "out": values[:, INPUTS:],
            "bias": jnp.zeros(CLASSES),
        }

    def loss(p, unit):
        logits = jnp.tanh(unit["x"] @ p["in"] + p["shift"]) @ p["out"] + p["bias"]
        return cross_entropy(logits, unit["label"])

    plan = PrivacyPlan(
        clip_norm=1.0,
        noise_multiplier=1.0,
        sample_rate=batch / (ROWS // 2),
        expected_batch=batch,
        steps=steps,
        num_units=ROWS // 2,
    )
    optimizer = optax.adam(1e-2)
    return Recipe(loss, optimizer, init, steps, *((None, plan) if private else (batch, None)))


def data() -> dict[str, np.ndarray]:
    """Rows of chance: what they hold takes no time."""
    rng = np.random.default_rng(0)
    x = rng.random((ROWS, INPUTS), np.float32)
    return {"x": x, "label": (np.arange(ROWS) % CLASSES).astype(np.int32)}


def programs(name: str, models: int, steps: int) -> dict[str, Program]:
    """The ways to train on one device."""
    recipe, units = recipe_of(name, steps), jax.device_put(data(), jax.devices()[0])
    keys = jax.random.split(jax.random.key(0), models)
    membership = jax.random.uniform(jax.random.key(1), (models, ROWS)) < 0.5
    train = functools.partial(train_models, recipe)
    together = compiled(train, units, keys, membership)
    start = time.perf_counter()
    single = jax.jit(train).lower(units, keys[:1], membership[:1]).compile()
    seconds = time.perf_counter() - start
    parts = [(keys[i : i + 1], membership[i : i + 1]) for i in range(models)]

    def one_by_one(_):
        for part in parts:
            jax.block_until_ready(single(units, *part))

    ways = {"one by one": Program(one_by_one, compile_s=seconds), "together": together}
    if recipe.plan is None:
        ways["step by step"] = Program(stepwise(recipe, units, keys, np.asarray(membership)))
    return ways


def stepwise(recipe: Recipe, units, keys, membership):
    """A loop in Python over models and steps, around a compiled step."""

    @jax.jit
    def step(params, state, rows):
        taken = jax.tree.map(lambda leaf: leaf[rows], units)

        def mean(params):
            return jnp.mean(jax.vmap(recipe.loss_fn, (None, 0))(params, taken))

        updates, state = recipe.optimizer.update(jax.grad(mean)(params), state, params)
        return optax.apply_updates(params, updates), state

    def call(_):
        rng = np.random.default_rng(0)
        for key, members in zip(keys, membership, strict=True):
            own = np.flatnonzero(members)
            params = recipe.init(key)
            state = recipe.optimizer.init(params)
            for _ in range(recipe.steps):
                params, state = step(params, state, rng.choice(own, recipe.batch))
            jax.block_until_ready(params)

    return call


def over_devices(name: str, models: int, steps: int) -> Program:
    """All models at once, spread over the devices of this process."""
    recipe, units = recipe_of(name, steps), data()
    how = {"private_plan": recipe.plan} if recipe.plan else {"steps": steps, "batch": recipe.batch}
    parts = (recipe.loss_fn, recipe.optimizer, recipe.init, units)
    key = jax.random.key(0)
    return Program(lambda _: train_shadows(*parts, models=models, key=key, **how))


def measure(name: str, chosen, spread: bool) -> list[dict]:
    """The rows of one case in this process."""
    ways = programs(name, chosen.models, chosen.steps)
    if spread:
        rival = f"together on {jax.device_count()} devices"
        ways = {
            "one by one": ways["one by one"],
            rival: over_devices(name, chosen.models, chosen.steps),
        }
    times = interleaved(ways, chosen.rounds)
    found = []
    for rival, program in ways.items():
        base = times["one by one"]
        one = timed_row(BENCH, name, rival, program, times[rival], base) | where()
        found.append(one | {"models": chosen.models, "steps": chosen.steps, "speedup": None})
        found[-1]["speedup"] = round(1 / one["ratio"], 2)
    return found


def measure_spread(name: str, chosen) -> list[dict]:
    """The same in a process with as many devices as cores."""
    number, before = max(2, cores()), os.environ.get("XLA_FLAGS", "")
    options = ["--cases", name, "--models", chosen.models, "--steps", chosen.steps]
    os.environ["XLA_FLAGS"] = f"{before} {FLAG}={number}".strip()
    try:
        rows = rows_of_process(__file__, *options, "--rounds", chosen.rounds, "--spread")
    finally:
        os.environ["XLA_FLAGS"] = before
    return [one for one in rows if one["rival"] != "one by one"]


def parsed(arguments):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--models", type=int, help="64")
    parser.add_argument("--steps", type=int, help="of a training; 300")
    parser.add_argument("--rounds", type=int, help="5")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one process")
    parser.add_argument("--spread", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    chosen.models = chosen.models or (3 if chosen.quick else 64)
    chosen.steps = chosen.steps or (3 if chosen.quick else 300)
    chosen.rounds = chosen.rounds or (1 if chosen.quick else 5)
    chosen.names = chosen.cases.split(",")
    for name in chosen.names:
        if name not in CASES:
            parser.error(f"--cases must be of {', '.join(CASES)}, got {name!r}")
    return chosen


def main(arguments=None) -> int:
    """Runs the bench."""
    chosen = parsed(arguments)
    if not (chosen.spread or chosen.quick):
        say_if_busy()
    found: list[dict] = []
    for name in chosen.names:
        say(f"{name}: {chosen.models} models of {chosen.steps} steps")
        found += measure(name, chosen, chosen.spread)
        if not (chosen.quick or chosen.spread):
            found += measure_spread(name, chosen)
    if not chosen.spread:
        head = ["case", "way", "ms", "speedup", "compile s"]
        lines = [[one["case"], one["rival"], f"{one['median_ms']:.0f}", f"{one['speedup']:.2f}",
                  str(one["compile_s"] or "")] for one in found]  # fmt: skip
        print_markdown(head, lines)
    print_rows(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
