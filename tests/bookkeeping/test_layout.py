"""Convolutions are exchanged for a quick form wherever they are, and compute what they did."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trustml.bookkeeping.layout import in_loops
from trustml.kernels.convolution import channels_last, convolution

QUICK = "dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"
CASES = [  # layouts of image, kernel and output; settings
    ("NCW", "OIW", "NCW", {"window_strides": (2,), "padding": ((2, 1),)}),
    ("NWC", "WIO", "NWC", {"rhs_dilation": (2,), "feature_group_count": 2}),
    ("NCHW", "OIHW", "NCHW", {"window_strides": (2, 1)}),
    ("NHWC", "HWIO", "NHWC", {"padding": ((0, 0), (0, 0))}),
    ("NHWC", "OIHW", "NCHW", {"feature_group_count": 4, "padding": ((1, 0), (2, 1))}),
    ("CHWN", "IHWO", "HWNC", {"lhs_dilation": (2, 1), "rhs_dilation": (1, 2)}),
]


def problem(image, kernel, out, options):
    sizes = {"N": 3, "C": 4, "H": 7, "W": 6, "I": 4 // options.get("feature_group_count", 1)}
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=[sizes[axis] for axis in image]), jnp.float32)
    taps = {**sizes, "H": 3, "W": 2, "O": 8}
    k = jnp.asarray(rng.normal(size=[taps[axis] for axis in kernel]), jnp.float32)
    space = x.ndim - 2
    numbers = jax.lax.conv_dimension_numbers(x.shape, k.shape, (image, kernel, out))
    plain = {"window_strides": (1,) * space, "padding": ((1, 1),) * space}
    return x, k, {**plain, **options, "dimension_numbers": numbers}


@pytest.mark.parametrize(("image", "kernel", "out", "options"), CASES)
def test_values_and_gradients_are_those_of_lax(image, kernel, out, options):
    x, k, settings = problem(image, kernel, out, options)

    def loss(k, x):
        found = jax.lax.conv_general_dilated(x, k, **settings)
        return jnp.mean(jnp.sin(found))

    both = jax.value_and_grad(loss, argnums=(0, 1))

    def step(turn, carry):
        del turn
        _, k, x = carry
        value, (of_kernel, of_image) = in_loops(both)(k, x)
        return value, k - of_kernel, x - of_image

    value, moved_k, moved_x = jax.jit(
        lambda k, x: jax.lax.fori_loop(0, 2, step, (jnp.zeros(()), k, x))
    )(k, x)
    for _ in range(2):
        want, (of_kernel, of_image) = both(k, x)
        k, x = k - of_kernel, x - of_image
    np.testing.assert_allclose(value, want, atol=1e-5)
    np.testing.assert_allclose(moved_k, k, atol=1e-5)
    np.testing.assert_allclose(moved_x, x, atol=1e-5)


@pytest.mark.parametrize(("image", "kernel", "out", "options"), CASES)
def test_the_op_is_its_reference(image, kernel, out, options):
    x, k, settings = problem(image, kernel, out, options)
    want = jax.lax.conv_general_dilated(x, k, **settings)
    for form in (convolution, channels_last):
        np.testing.assert_allclose(form(x, k, **settings), want, atol=1e-5)


def conv(x, k):
    return jax.lax.conv(x, k, (1, 1), "SAME")


@jax.custom_vjp
def negated_gradient(x, k):
    return conv(x, k)


negated_gradient.defvjp(
    lambda x, k: (conv(x, k), (x, k)),
    lambda held, cotangent: tuple(-one for one in jax.vjp(conv, *held)[1](cotangent)),
)


def in_branch(x, k):
    return jax.lax.cond(x[0, 0, 0, 0] > 0, conv, lambda x, k: conv(2 * x, k), x, k)


def in_scan(x, k):
    return jax.lax.scan(lambda x, _: (conv(x, k), None), x, length=2)[0]


PLACES = {
    "plain": conv,
    "jit": jax.jit(conv),
    "remat": jax.checkpoint(conv),
    "branch": in_branch,
    "scan": in_scan,
    "custom": negated_gradient,
    "rows": jax.vmap(lambda x, k: conv(x[None], k)[0], (0, None)),
}


@pytest.mark.parametrize("place", PLACES)
def test_convolutions_are_found_wherever_they_are(place):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, 2, 5, 5)), jnp.float32)
    k = jnp.asarray(rng.normal(size=(2, 2, 3, 3)), jnp.float32)
    grad = jax.grad(lambda k, x: jnp.sum(jnp.sin(PLACES[place](x, k))))
    quick = jax.jit(in_loops(grad))
    np.testing.assert_allclose(quick(k, x), grad(k, x), rtol=1e-4, atol=1e-4)
    text = quick.lower(k, x).as_text()
    assert text.count("dim_numbers") == text.count(QUICK) > 0


def test_on_other_platforms_a_convolution_stays_as_it_is_written():
    x, k = jnp.ones((1, 2, 5, 5)), jnp.ones((2, 2, 3, 3))
    for platform, count in (("cpu", 1), ("cuda", 0), ("tpu", 0)):
        lowered = jax.jit(in_loops(conv)).trace(x, k).lower(lowering_platforms=(platform,))
        assert lowered.as_text().count(QUICK) == count


def test_a_function_without_convolutions_is_called_as_it_is():
    held = []

    def function(x):
        held.append(x)
        return {"twice": 2 * x}

    found = in_loops(function)(jnp.arange(3))
    assert found["twice"].tolist() == [0, 2, 4]
    assert not isinstance(held[-1], jax.core.Tracer)
