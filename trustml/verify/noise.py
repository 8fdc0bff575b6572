"""Is the noise normal, of the asked scale, never the same twice, and in the update?"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from trustml.noise import SUPPORT, check_key, gaussian, gaussian_like, new_key, tail_delta
from trustml.noise.box_muller import block_normals
from trustml.noise.chacha import chacha_blocks
from trustml.plan import PrivacyPlan
from trustml.training import baseline_step, private_step

_COUNT = 1_000_000  # values: the least at which every statistic below notices 2 % of scale
_DEVIATIONS = 5  # standard errors: a sound generator fails a row once in 1.7 million runs
_KOLMOGOROV = 2.6  # sqrt(n) D exceeds it with probability 2 exp(-2 2.6^2) = 2.7e-6
_WRONG = 0.98  # the planted scale

_RFC_8439 = (
    "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
    "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
)
_STROMBERGSON = "9bf49a6a0755f953811fce125f2683d50429c3bb49e074147e0089a52eae155f"


class NoiseCheck(NamedTuple):
    """A statistic of the noise, and the interval in which it has to lie."""

    check: str
    found: float
    low: float
    high: float
    planted: bool  # an error is in on purpose, and must push `found` out of the interval
    basis: str  # where the interval comes from

    @property
    def holds(self) -> bool:
        """Whether the value is inside, or outside where an error is planted."""
        return (self.low <= self.found <= self.high) != self.planted


def noise_checks(key: jax.Array | None = None) -> Iterator[NoiseCheck]:
    """Yields every check, on a fresh key unless one is given; about ten seconds."""
    key = new_key() if key is None else key
    yield from _vectors()
    values = np.asarray(gaussian(key, (_COUNT,)), np.float64)
    yield from moments(values)
    for row in moments(_WRONG * values):
        if row.check in ("variance", "Kolmogorov-Smirnov", "fourth moment"):
            yield row._replace(check=f"{row.check}, scale 2 % too small", planted=True)
    yield from _support(values[:100_000])
    yield from _streams(key)
    yield from _keys(key)
    yield from _updates(key)


def _vectors():
    """The block function against its published vectors."""
    counter = (1, 0x09000000, 0x4A000000, 0)
    found = _bytes_equal(bytes(range(32)), counter, 20, _RFC_8439)
    yield NoiseCheck("bytes of the 20-round block", found, 64, 64, False, "RFC 8439, 2.3.2")
    found = _bytes_equal(bytes(32), (0, 0, 0, 0), 12, _STROMBERGSON)
    source = "draft-strombergson-chacha-test-vectors, TC1"
    yield NoiseCheck("bytes of the 12-round block", found, 32, 32, False, source)


def _bytes_equal(key: bytes, counter, rounds: int, published: str) -> int:
    words = jnp.asarray(np.frombuffer(key, "<u4").astype(np.uint32))
    block = chacha_blocks(words, [jnp.uint32(word) for word in counter], rounds=rounds)
    found = np.stack(block).astype("<u4").tobytes()
    return sum(a == b for a, b in zip(found, bytes.fromhex(published), strict=False))


def moments(values: np.ndarray) -> Iterator[NoiseCheck]:
    """Statistics of draws that should be standard normal, float64."""
    count = values.size
    for name, found, centre, variance in (
        ("mean", values.mean(), 0.0, 1.0),
        ("variance", (values**2).mean(), 1.0, 2.0),
        ("fourth moment", (values**4).mean(), 3.0, 96.0),
        ("beyond 4 sigma", (np.abs(values) > 4).mean(), 6.334e-5, 6.334e-5),
    ):
        reach = _DEVIATIONS * math.sqrt(variance / count)
        yield NoiseCheck(
            name,
            float(found),
            max(centre - reach, 0.0) if name == "beyond 4 sigma" else centre - reach,
            centre + reach,
            False,
            f"{_DEVIATIONS} standard errors of {count:,} values",
        )
    distance = _kolmogorov(values)
    basis = f"2 exp(-2 {_KOLMOGOROV}^2) = 3e-6"
    yield NoiseCheck("Kolmogorov-Smirnov", distance, 0.0, _KOLMOGOROV, False, basis)


def _kolmogorov(values):
    from scipy.special import ndtr

    expected = ndtr(np.sort(values))
    steps = np.arange(values.size + 1) / values.size
    largest = max((steps[1:] - expected).max(), (expected - steps[:-1]).max())
    return float(math.sqrt(values.size) * largest)


def _support(values):
    """How far the values reach, and how finely."""
    from scipy.special import ndtr

    # The block of zeros gives the largest radius at the smallest angle.
    largest = float(block_normals([jnp.zeros(1, jnp.uint32)] * 16).max())
    basis = "96-bit radius; float32 uniforms stop near 5.2"
    yield NoiseCheck("largest value, in sigma", largest, 9.0, SUPPORT + 0.1, False, basis)
    missing = (1 + math.exp(3.0)) * 1000 * 1e9 * 2 * float(ndtr(-SUPPORT))
    charged = tail_delta(3.0, steps=1000, dimension=1e9) / missing
    basis = "never charged less than (1 + e^epsilon) T d 2Q(R)"
    yield NoiseCheck("charged over missing tail", charged, 1.0, 100.0, False, basis)
    basis = "a lattice repeats its values"
    rough = np.asarray(jnp.asarray(values, jnp.float32).astype(jnp.bfloat16), np.float32)
    for name, found, planted in (("", values, False), (", in bfloat16", rough, True)):
        share = len(np.unique(found)) / found.size
        yield NoiseCheck(f"distinct values, share{name}", share, 0.95, 1.0, planted, basis)


def _streams(key):
    """Steps and leaves read different counters: no two of them are alike."""
    size = 20_000
    limit = 6 / math.sqrt(size)  # 6 standard errors: the largest of many correlations
    tree = {"a": jnp.zeros(size), "b": jnp.zeros((size // 10, 10))}

    def largest(steps):
        rows = [gaussian_like(tree, key, jnp.uint32(step)) for step in steps]
        flat = [np.asarray(leaf).ravel() for row in rows for leaf in row.values()]
        apart = np.abs(np.corrcoef(np.stack(flat)) - np.eye(len(flat)))
        return float(apart.max())

    basis = f"6 standard errors of {size:,} values"
    name = "largest correlation of 2 leaves and 6 steps"
    steps = (0, 1, 2, 3, 65_536, 2**31)
    yield NoiseCheck(name, largest(steps), 0.0, limit, False, basis)
    yield NoiseCheck(f"{name}, one replayed", largest((0, 1, 0)), 0.0, limit, True, basis)


def _keys(key):
    """Every one of 256 key bits matters, and smaller keys are refused."""
    name, basis = "key bits that change the noise", "256-bit keys"
    found = _bits_that_matter(key, lambda key: gaussian(key, (4,)))
    yield NoiseCheck(name, found, 256, 256, False, basis)
    small = jax.jit(lambda key: jax.random.normal(jax.random.wrap_key_data(key[:2]), (4,)))
    found = _bits_that_matter(key, small)
    yield NoiseCheck(f"{name}, jax.random", found, 256, 256, True, basis)
    unfit = (jax.random.key(0), jax.random.PRNGKey(0), jnp.zeros(4, jnp.uint32), 0)
    refused = sum(_refuses(each) for each in unfit)
    yield NoiseCheck("unfit keys that are refused", refused, 4, 4, False, "64 and 128 bits, a seed")


def _bits_that_matter(key, generate: Callable) -> int:
    before, count = np.asarray(generate(key)), 0
    for bit in range(256):
        flipped = np.asarray(key).copy()
        flipped[bit // 32] ^= np.uint32(1 << bit % 32)
        count += not np.array_equal(before, np.asarray(generate(jnp.asarray(flipped))))
    return count


def _refuses(key) -> bool:
    try:
        check_key(key)
    except TypeError:
        return True
    return False


def _updates(key):
    """A private step moves each weight by noise of `stddev / expected_batch`, and of this key."""
    sgd = optax.sgd(1.0)
    weaker = optax.chain(optax.scale(_WRONG), sgd)
    name = "scale of noise in a private step"
    values = _update(private_step, sgd, key)
    low, high = (1 + sign * _DEVIATIONS / math.sqrt(2 * values.size) for sign in (-1, 1))
    basis = f"{_DEVIATIONS} standard errors of {values.size:,} values"
    yield NoiseCheck(name, float(values.std()), low, high, False, basis)
    found = float(_update(private_step, weaker, key).std())
    yield NoiseCheck(f"{name}, 2 % too small", found, low, high, True, basis)
    found = float(_update(baseline_step, sgd, key).std())
    yield NoiseCheck(f"{name}, none added", found, low, high, True, basis)
    stream = -np.asarray(gaussian(key, values.shape), np.float64)
    gap = float(np.abs(values - stream).max())
    yield NoiseCheck("distance to the key's stream", gap, 0.0, 1e-5, False, "float32 rounding")


def _update(make_step, optimizer, key):
    """One step from zeros on gradients of zero, in units of the noise it should hold."""
    plan = PrivacyPlan(
        clip_norm=0.5, noise_multiplier=2.0, sample_rate=0.2, steps=1, expected_batch=12
    )
    step = make_step(lambda p, unit: jnp.sum(p) * unit[0], optimizer, plan)
    state = step.init(jnp.zeros(200_000), key=key)
    state, _ = step.update(state, next(plan.batches()), np.zeros((plan.num_units, 1), np.float32))
    return np.asarray(state.params, np.float64) * plan.expected_batch / plan.stddev
