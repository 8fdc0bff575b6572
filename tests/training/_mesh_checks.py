"""Steps on simulated devices against steps on one; prints what `test_mesh` asserts, as JSON.

    python tests/training/_mesh_checks.py eight           # with eight devices in XLA_FLAGS
    python tests/training/_mesh_checks.py process 0 PORT  # one of two, two devices each

Processes of their own: how many devices are simulated is fixed when JAX starts.
"""

import json
import re
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import trustml
from trustml.training import fully_sharded, read_ledger, summarize

UNITS, TIME, WIDTH, STEPS = 70, 3, 16, 3
TENSOR = {"up": P(None, "model"), "down": P("model", None), "table": P("model", None), "bias": P()}
KINDS = {"private": trustml.private_step, "baseline": trustml.baseline_step}


def plan(**changes):
    fields = {
        "clip_norm": 0.5,
        "noise_multiplier": 0.5,
        "sample_rate": 0.3,
        "steps": STEPS,
        "expected_batch": 21,
        "num_units": UNITS,
    }
    return trustml.PrivacyPlan(**{**fields, **changes})


def data():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 24, (UNITS, TIME)).astype(np.int32)
    return {"tokens": tokens, "target": rng.normal(size=(UNITS, WIDTH)).astype(np.float32)}


def params():
    rng = np.random.default_rng(1)
    shapes = {"table": (24, WIDTH), "up": (WIDTH, 32), "down": (32, WIDTH), "bias": (WIDTH,)}
    return {name: rng.normal(size=shape).astype(np.float32) / 4 for name, shape in shapes.items()}


def loss(params, unit):
    hidden = jnp.tanh(params["table"][unit["tokens"]] @ params["up"])
    error = jnp.mean(hidden @ params["down"], axis=0) + params["bias"] - unit["target"]
    return 0.5 * jnp.sum(error**2)


def rich(params, unit, key):
    """With dropout, whose keys follow the units, and an auxiliary value."""
    keep = jax.random.bernoulli(key, 0.5, (WIDTH,)).astype(jnp.float32)
    return loss(params, {**unit, "target": unit["target"] * keep}), unit["target"][:2]


def on(shape, *names):
    """A mesh over the first devices, with one axis of each type where there are two."""
    devices = jax.devices()[: int(np.prod(shape))]
    kinds = (AxisType.Explicit, AxisType.Auto)[: len(names)]
    return jax.make_mesh(shape, names, axis_types=kinds, devices=devices)


def everywhere(params, mesh):
    del mesh
    return params


def by_layers(params, mesh):
    return jax.device_put(params, {name: NamedSharding(mesh, TENSOR[name]) for name in params})


DATA, BOTH = ((8,), "data"), ((4, 2), "data", "model")
DROPOUT = "dropout and aux, in micro-batches"
CASES = {
    "data parallel": (DATA, everywhere, loss, {}),
    "fully sharded": (DATA, fully_sharded, loss, {}),
    "by layers, in micro-batches": (BOTH, by_layers, loss, {"physical_batch_size": 8}),
    DROPOUT: (
        DATA,
        everywhere,
        rich,
        {"physical_batch_size": 16, "has_aux": True},
    ),
    "fully sharded, ghost, in micro-batches": (
        DATA,
        fully_sharded,
        loss,
        {"strategy": "ghost", "physical_batch_size": 24},
    ),
    "automatic micro-batch": (((3,), "data"), everywhere, loss, {"physical_batch_size": "auto"}),
}


def optimizer():
    return optax.sgd(0.2, momentum=0.9)  # linear in the sums: rounding stays rounding


def trained(step, start, units):
    state, metrics = step.init(start, key=0), []
    for draw in step.plan.batches(seed=0):
        state, found = step.update(state, draw, units)
        metrics.append(found)
    return state, metrics


def moved(weights):
    """What training did to the weights, so that equal starting points hide nothing."""
    return jax.tree.map(lambda leaf, first: np.asarray(leaf) - first, weights, params())


def error(found, expected) -> float:
    """The largest difference of a leaf over its largest value."""
    worst = 0.0
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        mine, theirs = np.asarray(mine, np.float64), np.asarray(theirs, np.float64)
        worst = max(worst, float(np.abs(mine - theirs).max() / max(np.abs(theirs).max(), 1e-30)))
    return worst


_MOVES = re.compile(r"= (.*?) (all-gather|all-to-all|collective-permute)(?:-start)?\(")


def moved_rows(program, step, allowed):
    """Floating shapes that devices exchange and that are neither weights nor one number a row.

    Token ids may move: where a table is split, the compiler sends them to where its rows are.
    """
    rows = step.on_mesh.padded(step.plan.capacity)
    found = []
    for result, kind in _MOVES.findall(program.as_text()):
        for dims in re.findall(r"\bb?f\d+\[([\d,]*)\]", result):
            shape = tuple(int(size) for size in dims.split(",") if size)
            kept = sorted(size for size in shape if size > 1)
            if np.prod(shape) > rows and kept not in allowed:
                found.append(f"{kind} {list(shape)}")
    return found


def compared(case, make, expected):
    """One case on its mesh against the same training on one device."""
    shape, place, loss_fn, options = case
    step = make(loss_fn, optimizer(), plan(), mesh=on(*shape), **options)
    start = place(params(), step.on_mesh.mesh)
    first = step.init(start, key=0)
    program = step.lower(first, data()).compile()
    step._compiled = program  # it takes a state that lies as `init` put it, and no other
    lies = [leaf.sharding for leaf in jax.tree.leaves(first)]
    state, metrics = trained(step, start, data())
    allowed = [sorted(leaf.shape) for leaf in jax.tree.leaves(state.params)]
    if options.get("has_aux"):  # handed out in the order of the draw, so it is gathered
        allowed += [sorted((step.on_mesh.padded(step.plan.capacity) // 8, 8, 2))]
    return {
        "weights": error(moved(state.params), moved(expected[0].params)),
        "metrics": error(metrics, expected[1]),
        "drifted": [leaf.sharding for leaf in jax.tree.leaves(state)] != lies,
        "split": sum(not each.is_fully_replicated for each in lies),
        "moved rows": moved_rows(program, step, allowed),
        "physical_batch_size": step.physical_batch_size,
    }


def on_one_device():
    """What every mesh must agree with, by loss and kind."""
    return {
        (loss_fn, kind): trained(make(loss_fn, optimizer(), plan(), **options), params(), data())
        for loss_fn, options in ((loss, {}), (rich, CASES[DROPOUT][3]))
        for kind, make in KINDS.items()
    }


def comparisons(one):
    return {
        f"{name}: {kind}": compared(case, make, one[case[2], kind])
        for name, case in CASES.items()
        for kind, make in KINDS.items()
        if kind == "private" or name in list(CASES)[:4]
    }


# --- Resumed on other devices ---


def linear(params, unit):
    return 0.5 * jnp.sum((params["bias"] - unit["target"]) ** 2)


def resumed():
    """A run that goes from eight devices to four to one, against one that was never ended."""
    each, first = plan(steps=6), {"bias": params()["bias"]}
    step = trustml.private_step(linear, optimizer(), each)
    whole = trustml.fit(step, first, data(), seed=0, progress=False)
    shapes: list = [on((8,), "data"), on((4,), "data"), None]
    with tempfile.TemporaryDirectory() as parent:
        out, notes, result = Path(parent) / "run", [], None
        for turn, mesh in enumerate(shapes):
            step = trustml.private_step(linear, optimizer(), each, mesh=mesh)
            start = first if mesh is None else fully_sharded(first, mesh)
            asked = iter(range(1, 99))
            try:
                result = trustml.fit(
                    step,
                    start,
                    data(),
                    out=out,
                    resume=turn > 0,
                    seed=0,
                    progress=False,
                    pause=lambda asked=asked: next(asked) == 2 and mesh is not None,  # noqa: B023
                )
            except KeyboardInterrupt:
                notes.append("paused")
        summary = summarize(read_ledger(out))
        place = jax.tree.leaves(result.params)[0].sharding.device_set
    return {
        "paused": len(notes),
        "stopped": result.stopped,
        "steps": int(result.state.step),
        "charged": summary.charged,
        "keys": [segment.key for segment in summary.segments],
        "starts": [segment.start for segment in summary.segments],
        "devices": len(place),
        "notes": result.notes,
        "weights": error(result.params, whole.params),
    }


# --- Refusals ---


class Elsewhere:
    """A device of a backend that is not here."""

    platform, process_index, id = "tpu", 0, 0

    class client:
        process_index = staticmethod(lambda: 0)


def refusals():
    data_mesh, half = on((8,), "data"), on((4,), "data")
    step = trustml.private_step(loss, optimizer(), plan(), mesh=data_mesh)
    other = trustml.private_step(loss, optimizer(), plan(), mesh=half)
    draw = next(plan().batches(seed=0))
    elsewhere = trustml.training.mesh.OnMesh(Mesh(np.array([Elsewhere()]), ("data",)))
    single = jax.device_put(params(), jax.devices()[7])

    def make(**options):
        return lambda: trustml.private_step(loss, optimizer(), plan(), **options)

    attempts = {
        "axis": make(mesh=on((8,), "batch")),
        "kind": make(mesh=8),
        "physical_batch_size": make(mesh=data_mesh, physical_batch_size=20),
        "other mesh": lambda: step.init(fully_sharded(params(), half)),
        "other device": lambda: other.init(single),
        "other step": lambda: step.update(step.init(params()), draw, other.gather(draw, data())),
        "backend": lambda: elsewhere.take(jnp.zeros((4, 2)), np.arange(4)),
    }
    return {name: refusal(attempt) for name, attempt in attempts.items()}


def refusal(attempt) -> str:
    try:
        attempt()
    except (ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was refused"


def placements():
    """What follows a weight and what does not."""
    mesh = on((8,), "data")
    step = trustml.private_step(loss, optax.adafactor(1e-3), plan(), mesh=mesh)
    state = step.init(fully_sharded(params(), mesh))
    device = jax.tree.map(jnp.asarray, data())
    draw = next(plan().batches(seed=0))
    taken = [step.gather(draw, units).rows for units in (data(), device)]
    return {
        "specs": {name: str(leaf.sharding.spec) for name, leaf in state.params.items()},
        "key": str(state.key.sharding.spec),
        "on one device": sum(len(leaf.sharding.device_set) == 1 for leaf in jax.tree.leaves(state)),
        "host and device rows": error(*taken),
    }


# --- Two processes ---


def in_a_process(number: int, port: str):
    """Trains over the devices of both processes."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=number)
    mesh = on((4,), "data")
    step = trustml.private_step(loss, optimizer(), plan(), mesh=mesh, physical_batch_size=8)
    result = trustml.fit(step, params(), data(), seed=0, progress=False)
    split = trustml.baseline_step(loss, optimizer(), plan(), mesh=mesh)
    state, _ = trained(split, fully_sharded(params(), mesh), data())
    gather = jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, P()))
    baseline = listed(gather(state.params))
    key = step.init(params()).key
    folder = Path(tempfile.gettempdir()) / f"trustml-never-made-{port}"

    def fit(**options):
        return lambda: trustml.fit(step, params(), data(), progress=False, **options)

    return {
        "devices": [jax.device_count(), jax.local_device_count()],
        "private": listed(result.params),
        "baseline": baseline,
        "losses": [entry["loss"] for entry in result.history],
        "key": np.asarray(key).tolist(),
        "out": refusal(fit(out=folder, seed=0)),
        "left": folder.exists(),
        "draws": refusal(fit()),
    }


def listed(weights):
    return {name: np.asarray(leaf).tolist() for name, leaf in weights.items()}


def planted():
    """A step that works on split weights as they lie."""
    mesh = on((8,), "data")
    step = trustml.baseline_step(loss, optimizer(), plan(), mesh=mesh)
    step.on_mesh.gathered = lambda tree, shardings: tree
    state = step.init(fully_sharded(params(), mesh))
    allowed = [sorted(leaf.shape) for leaf in jax.tree.leaves(state.params)]
    return {"moved rows": moved_rows(step.lower(state, data()).compile(), step, allowed)}


def padding():
    draws = list(plan().batches(seed=0))
    return {"capacity": plan().capacity, "drawn": [int((draw.group >= 0).sum()) for draw in draws]}


def eight():
    one = on_one_device()
    return {
        "one device": {kind: listed(one[loss, kind][0].params) for kind in KINDS},
        "compared": comparisons(one),
        "planted": planted(),
        "padding": padding(),
        "resumed": resumed(),
        "refused": refusals(),
        "placed": placements(),
    }


if __name__ == "__main__":
    print(
        json.dumps(
            eight() if sys.argv[1] == "eight" else in_a_process(int(sys.argv[2]), sys.argv[3])
        )
    )
