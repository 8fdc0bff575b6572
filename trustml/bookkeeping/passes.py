"""Two passes that hold what ordinary training holds: norms first, then one weighted gradient."""

import jax
import jax.numpy as jnp

from trustml.bookkeeping.engine import Kept, book_keep, first_pass, read_for
from trustml.bookkeeping.meters import meters_of


def auto(loss, trained, frozen, unit) -> Kept:
    """`book_keep`; but `ghost` where the loss rematerialises, as it does for want of memory."""
    reading = read_for(loss, trained, frozen, unit)
    compute = ghost if reading.rematerialises else book_keep
    return compute(loss, trained, frozen, unit, reading=reading)


def ghost(loss, trained, frozen, unit, rules=None, reading=None) -> Kept:
    """Norms by meters, then the gradient of the weighted losses, as ordinary training takes it.

    Scan and remat stay what they are, so memory does. Two kinds of losses go to `book_keep`
    instead: those that compute anything below float32, where gradients would be summed over units
    in that precision, or weights of losses be rounded to it, past their bound; and those with
    rules of their own by `jax.custom_vjp`, which need not be linear, so that the gradient of a
    weighted loss need not be the weighted gradient whose norm is known.

    Arguments and result are those of `book_keep`.

    References:
      Li et al., Large Language Models Can Be Strong Differentially Private Learners, 2021.
    """
    reading = reading or read_for(loss, trained, frozen, unit)
    if reading.below_float32 or reading.has_custom_vjp:
        return book_keep(loss, trained, frozen, unit, rules, reading)
    first = first_pass(loss, trained, frozen, unit, rules, reading, meters_of)

    def gradients(unit, weights):
        def losses(trained):
            return jax.vmap(lambda *one: loss(trained, frozen, *one)[0])(*unit)

        primal, pull = jax.vjp(losses, trained)
        rows = [pull(row.astype(primal.dtype))[0] for row in weights]
        return jax.tree.leaves(jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows))

    def replaced(finite, weight):
        """Sums of finite units: of weight 0, others stand where one is not, as 0 * NaN is NaN."""
        place = jnp.where(finite, jnp.arange(finite.shape[0]), jnp.argmax(finite))
        others = jax.tree.map(lambda leaf: leaf[place], unit)
        return [jnp.where(jnp.any(finite), leaf, 0.0) for leaf in gradients(others, weight)]

    def at_most_once(needed, finite, weight, start):
        """`replaced` where it is needed, else `start`: as a loop, since `cond` copies the sums."""

        def turn(number, _):
            # What no turn changes would be computed before the loop, whether it turns or not.
            now, _ = jax.lax.optimization_barrier((finite, number))
            return replaced(now, weight)

        return jax.lax.fori_loop(0, needed.astype(jnp.int32), turn, start)

    def sums_of(finite, weight):
        if not first.reading.has_inner_blocks:
            # XLA finds that this forward pass is that of the norms.
            return at_most_once(jnp.any(~finite), finite, weight, gradients(unit, weight))
        # Loops it cannot share. In a loop of its own the second pass holds nothing before its turn.
        start = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradients, unit, weight))
        return at_most_once(jnp.any(weight != 0), finite, weight, start)

    def contract(weights, finite):
        sums: dict = {}
        for weight in weights:
            if id(weight) not in sums:
                sums[id(weight)] = sums_of(finite, weight)
        return [sums[id(weight)][place] for place, weight in enumerate(weights)]

    return Kept(first.squares, contract, first.loss, first.aux)
