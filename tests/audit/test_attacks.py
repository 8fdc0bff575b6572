"""Membership attacks against oracles, shadow models against trainings one by one."""

import functools
import importlib
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from trustml.audit.attacks import (
    by_slice,
    calibrated_loss,
    class_loss,
    informia,
    learned_attack,
    leave_one_out,
    lira,
    logit_confidence,
    min_k,
    min_k_plus_plus,
    model_values,
    over_words,
    pooled_result,
    rmia,
    split_scores,
    text_likelihood,
    token_signals,
    train_shadows,
    true_class_probability,
    tune_a,
    zlib_ratio,
)
from trustml.audit.membership import attack_result, loss_threshold_attack
from trustml.plan import PrivacyPlan

ROOT = Path(__file__).parents[2]
NORMAL = NormalDist()


def shadow_signals(seed, models=9, units=40, queries=()):
    """Signals of a target and of shadows with some of each unit in and out."""
    rng = np.random.default_rng(seed)
    membership = rng.permuted(np.arange(models)[:, None] % 2 == np.zeros(units), axis=0)
    shift = membership.reshape(models, units, *(1 for _ in queries))
    shadows = rng.normal(size=(models, units, *queries)) * (1 + shift) + 2 * shift
    return rng.normal(size=(units, *queries)) + 1, shadows, membership


# --- Signals ---


def test_signals_of_logits_are_those_of_the_softmax():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(3, 7, 4)) * 3, rng.integers(0, 4, 7)
    chance = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    own = np.take_along_axis(chance, np.broadcast_to(labels, (3, 7))[..., None], -1)[..., 0]
    np.testing.assert_allclose(true_class_probability(logits, labels), own, rtol=1e-12)
    np.testing.assert_allclose(class_loss(logits, labels), -np.log(own), rtol=1e-9)
    others = np.log(own) - np.log(1 - own)
    np.testing.assert_allclose(logit_confidence(logits, labels), others, rtol=1e-9)


def test_a_probability_that_rounds_to_one_keeps_its_confidence():
    logits = np.array([[800.0, 0.0, 0.0], [0.0, 800.0, 800.0]])
    assert logit_confidence(logits, [0, 0]) == pytest.approx([800 - np.log(2), -800 - np.log(2)])
    assert logit_confidence(np.float32(logits), [0, 0]).dtype == np.float64


def test_a_sequence_counts_its_words_alone():
    values = np.array([[1.0, 2.0, np.nan], [4.0, 7.0, 10.0]])
    mask = np.array([[True, True, False], [True, True, True]])
    assert over_words(values, mask).tolist() == [1.5, 7.0]
    assert over_words(values, mask, "sum").tolist() == [3.0, 21.0]


def test_min_k_plus_plus_is_that_of_the_softmax_by_hand():
    rng = np.random.default_rng(1)
    logits, tokens = rng.normal(size=(2, 5, 6)) * 2, rng.integers(0, 6, (2, 5))
    mask = np.array([[True] * 5, [True] * 4 + [False]])
    found = token_signals(jnp.asarray(logits, jnp.float32), jnp.asarray(tokens, jnp.int32))
    expected = []
    for text in range(2):
        scores = []
        for place in np.flatnonzero(mask[text]):
            chance = np.exp(logits[text, place]) / np.exp(logits[text, place]).sum()
            mean = sum(p * np.log(p) for p in chance)
            deviation = np.sqrt(sum(p * (np.log(p) - mean) ** 2 for p in chance))
            scores.append((np.log(chance[tokens[text, place]]) - mean) / deviation)
        expected.append(np.mean(sorted(scores)[: int(0.4 * len(scores))]))
    np.testing.assert_allclose(min_k_plus_plus(*found, mask, part=0.4), expected, rtol=1e-4)


def test_a_token_that_is_ruled_out_makes_no_nan():
    logits = jnp.array([[0.0, 0.0, -jnp.inf]])
    found = token_signals(logits, jnp.array([1]))
    assert [float(leaf[0]) for leaf in found] == pytest.approx([-np.log(2), -np.log(2), 0.0])
    assert token_signals(logits, jnp.array([2])).log_prob[0] == -jnp.inf


def test_texts_are_scored_by_their_least_likely_tokens_and_by_zlib():
    log_probs = np.array([[-1.0, -5.0, -2.0, -3.0], [-9.0, -1.0, -1.0, 0.0]])
    mask = np.array([[True, True, True, True], [False, True, True, True]])
    # One token at least, and rounded down: 0.5 of three is one.
    assert min_k(log_probs, mask, part=0.5).tolist() == [-4.0, -1.0]
    assert min_k(log_probs, mask, part=0.01).tolist() == [-5.0, -1.0]
    assert text_likelihood(log_probs, mask) == pytest.approx([-11 / 4, -2 / 3])
    texts = [b"the cat the cat the cat", b"q8 z!"]
    sizes = [len(zlib.compress(text)) for text in texts]
    assert zlib_ratio(log_probs, texts, mask) == pytest.approx(
        [-11 / 4 / sizes[0], -2 / 3 / sizes[1]]
    )


# --- Attacks ---


@pytest.mark.parametrize("variance", ["per_example", "global"])
@pytest.mark.parametrize("centre", ["median", "mean"])
@pytest.mark.parametrize("queries", [(), (3,)])
def test_lira_is_the_papers_formula_one_unit_at_a_time(variance, centre, queries):
    norm = pytest.importorskip("scipy.stats").norm
    target, shadows, membership = shadow_signals(2, queries=queries)
    asked, said = target.reshape(40, -1), shadows.reshape(9, 40, -1)
    laws = {}
    for side in (True, False):
        parts = [said[membership[:, unit] == side, unit] for unit in range(40)]
        middle = [getattr(np, centre)(part, axis=0) for part in parts]
        spread = [part.std(0, ddof=1) for part in parts]
        if variance == "global":  # within units
            squares = sum(((part - part.mean(0)) ** 2).sum(0) for part in parts)
            spread = [np.sqrt(squares / sum(len(part) - 1 for part in parts))] * 40
        laws[side] = np.array(middle), np.array(spread)
    ratio = norm.logpdf(asked, *laws[True]) - norm.logpdf(asked, *laws[False])
    options = {"variance": variance, "centre": centre}
    online = lira(target, shadows, membership, **options)
    np.testing.assert_allclose(online, ratio.mean(-1), rtol=1e-9)
    offline = lira(target, shadows, membership, variant="offline", **options)
    # One-sided: what 1 - Pr[Z > s] is a deviation of, from the tail that float64 resolves.
    above, below = norm.isf(norm.sf(asked, *laws[False])), norm.ppf(norm.cdf(asked, *laws[False]))
    tail = np.where(asked > laws[False][0], above, below)
    np.testing.assert_allclose(offline, tail.mean(-1), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_lira_on_known_normal_laws_gives_the_analytic_curve(shift):
    """Every unit has its own easiness; shadows stand exactly for N(easy, 1), N(easy + shift, 1)."""
    rng = np.random.default_rng(3)
    units = 20_000
    easy, members = rng.normal(size=units) * 3, np.arange(units) % 2 == 0
    pair = np.array([-1.0, 1.0])[:, None] / np.sqrt(2)  # of deviation 1
    shadows = np.concatenate([easy + shift + pair, easy + pair])
    membership = np.repeat([[True], [True], [False], [False]], units, axis=1)
    target = easy + shift * members + rng.normal(size=units)
    online = lira(target, shadows, membership)
    np.testing.assert_allclose(online, shift * (target - easy) - shift**2 / 2, atol=1e-9)
    at_one_percent = 1 - NORMAL.cdf(NORMAL.inv_cdf(0.99) - shift)
    for scores in (online, lira(target, shadows, membership, variant="offline")):
        found = attack_result(scores[members], scores[~members], rates=[0.01])
        assert found.auc.value == pytest.approx(NORMAL.cdf(shift / np.sqrt(2)), abs=0.01)
        assert found.tpr_at_fpr[0].tpr.value == pytest.approx(at_one_percent, abs=0.02)
    # What the loss alone sees is blurred by how easy a unit is.
    blurred = attack_result(target[members], target[~members])
    assert blurred.auc.value == pytest.approx(NORMAL.cdf(shift / np.sqrt(2 * 10)), abs=0.01)


def test_offline_lira_still_orders_what_lies_far_out():
    shadows, out = np.array([[0.0, 0.0], [1.0, 1.0]]), np.zeros((2, 2), bool)
    near, far = lira([20.0, 40.0], shadows, out, variant="offline")
    assert near < far  # a normal tail rounds both to one


@pytest.mark.parametrize("variant", ["online", "offline"])
@pytest.mark.parametrize("gamma", [0.7, 1.0, 2.0])
def test_rmia_is_the_double_loop_over_units_and_population(variant, gamma):
    rng = np.random.default_rng(4)
    models, units, population, a = 6, 15, 33, 0.4
    _, _, membership = shadow_signals(5, models, units)
    _, _, held = shadow_signals(6, models, population)
    target, shadows = rng.random(units), rng.random((models, units))
    z, z_shadows = rng.random(population), rng.random((models, population))

    def evidence(said, member, nobody=False):
        without = said[~member].mean()
        if variant == "offline":
            return ((1 + a) * without + 1 - a) / 2
        return without if nobody else (said[member].mean() + without) / 2

    for who in (None, held):
        found = rmia(
            *(target, shadows, membership),
            population=z,
            population_shadows=z_shadows,
            population_membership=who,
            variant=variant,
            gamma=gamma,
            a=a,
        )
        member_of = np.zeros_like(held) if who is None else who
        for x in range(units):
            own = target[x] / evidence(shadows[:, x], membership[:, x])
            beaten = 0
            for j in range(population):
                other = evidence(z_shadows[:, j], member_of[:, j], nobody=who is None)
                beaten += own / (z[j] / other) >= gamma
            assert found[x] == pytest.approx(beaten / population)
    score = informia(target, shadows, membership, variant=variant, a=a)
    ratio = [target[x] / evidence(shadows[:, x], membership[:, x]) for x in range(units)]
    np.testing.assert_allclose(score, np.log(ratio))
    order = np.argsort(score)
    assert (np.diff(found[order]) >= 0).all()


def test_rmia_counts_a_ratio_that_is_just_gamma():
    half, members = np.full((2, 1), 0.5), np.array([[True], [False]])
    found = rmia(
        *([0.5], half, members),
        population=[0.25, 0.5, 1.0],
        population_shadows=np.full((2, 3), 0.5),
    )
    assert found.tolist() == [2 / 3]


def test_the_offline_factor_is_the_best_of_the_grid_on_the_shadows():
    rng = np.random.default_rng(7)
    easy = rng.random(200)
    membership = rng.permuted(np.arange(8)[:, None] < np.full(200, 4), axis=0)
    shadows = np.clip(easy + 0.25 * membership * (1 - easy) + 0.1 * rng.random((8, 200)), 0, 1)
    grid, areas = (0.0, 0.25, 0.5, 0.75, 1.0), []
    for a in grid:
        total = 0.0
        for model in range(8):
            others = [other for other in range(8) if other != model]
            out = np.array(
                [shadows[[k for k in others if not membership[k, x]], x].mean() for x in range(200)]
            )
            score = shadows[model] / (((1 + a) * out + 1 - a) / 2)
            member = membership[model]
            total += (score[member][:, None] > score[~member][None]).mean()
        areas.append(total)
    assert tune_a(shadows, membership, grid=grid) == grid[int(np.argmax(areas))]
    assert max(areas) > min(areas) + 0.01  # the choice matters here


def test_the_calibrated_loss_reads_models_without_the_unit_alone():
    target, shadows, membership = shadow_signals(8)
    expected = [
        shadows[~membership[:, unit], unit].mean() - target[unit] for unit in range(len(target))
    ]
    np.testing.assert_allclose(calibrated_loss(target, shadows, membership), expected)


@pytest.mark.parametrize("hidden", [0, 8])
def test_the_learned_attack_finds_what_the_shadows_show_and_nothing_else(hidden):
    rng = np.random.default_rng(9)
    labels, membership = rng.integers(0, 3, 400), rng.random((5, 400)) < 0.5
    logits = rng.normal(size=(5, 400, 3))
    truth = np.eye(3)[labels]
    attack = functools.partial(
        learned_attack, labels=labels, key=jax.random.key(0), hidden=hidden, steps=300, batch=64
    )

    def area(logits):
        scores = attack(logits[0], logits[1:], membership[1:])
        return attack_result(scores[membership[0]], scores[~membership[0]]).auc

    leaking = area(logits + 3 * membership[..., None] * truth)
    by_loss = class_loss(logits[0] + 3 * membership[0][:, None] * truth, labels)
    simple = loss_threshold_attack(by_loss[membership[0]], by_loss[~membership[0]]).auc
    assert leaking.value > simple.value - 0.02
    assert leaking.low > 0.8
    nothing = area(logits)
    assert nothing.low <= 0.5 <= nothing.high


# --- Who is attacked, and the verdict ---


def test_each_model_is_attacked_by_the_others():
    _, shadows, membership = shadow_signals(10)
    signals = {"x": shadows, "z": shadows[:, :4]}
    seen = []

    def attack(target, others, who):
        seen.append((target["z"], others["x"], who))
        return target["x"]

    found = leave_one_out(attack, signals, membership, targets=3)
    np.testing.assert_array_equal(found, shadows[:3])
    for model, (own, others, who) in enumerate(seen):
        kept = [k for k in range(9) if k != model]
        np.testing.assert_array_equal(own, shadows[model, :4])
        np.testing.assert_array_equal(others, shadows[kept])
        np.testing.assert_array_equal(who, membership[kept])


def test_every_attack_is_judged_as_the_loss_is():
    rng = np.random.default_rng(11)
    member, other = rng.random(50), rng.random(2000) + 0.2
    assert str(attack_result(-member, -other)) == str(loss_threshold_attack(member, other))


def test_the_worst_slice_is_named_and_its_interval_allows_for_the_choice():
    rng = np.random.default_rng(12)
    groups, members = rng.integers(0, 4, 800), rng.random(800) < 0.5
    scores = rng.normal(size=800) + 2.0 * (groups == 2) * members
    groups[:3], members[:3] = 4, True
    names = ["a", "b", "c", "d", "few"]
    found = by_slice(scores, members, groups, names=names)
    assert found.worst == "c"
    assert set(found.slices) == set("abcd")
    assert found.left_out == {"few": "too few: 3 members and 0 others"}
    alone = found.slices["c"].auc
    assert found.worst_result.confidence == pytest.approx(1 - 0.05 / 4)
    assert found.worst_result.auc.low < alone.low < alone.value == found.worst_result.auc.value
    here = groups == 2
    same = attack_result(scores[here & members], scores[here & ~members])
    assert str(same) == str(found.slices["c"])


def test_slices_without_a_leak_are_rarely_accused():
    rng = np.random.default_rng(13)
    groups = np.repeat(np.arange(10), 60)
    together = alone = 0
    for _ in range(150):
        scores, members = rng.normal(size=600), rng.permuted(np.arange(600) % 2 == 0)
        found = by_slice(scores, members, groups, rates=[])
        together += found.worst_result.auc.low > 0.5
        alone += found.slices[found.worst].auc.low > 0.5
    # At most 2.5 % (one side) of 150 is 3.75; the uncorrected rate would be near 22 %.
    assert together <= 12
    assert alone > 20


def test_pooled_targets_share_units_and_the_interval_knows_it():
    rng = np.random.default_rng(14)
    targets, units = 16, 150
    # Units differ more than trainings do: drawing pairs anew would cover 25 times of 40.
    truth = 1 - NORMAL.cdf(NORMAL.inv_cdf(0.99) - 1.0 / np.sqrt(1 + 0.3**2))
    pooled = naive = 0
    for _ in range(40):
        members = rng.random((targets, units)) < 0.5
        noise = 0.3 * rng.normal(size=(targets, units))
        scores = rng.normal(size=units)[None] + noise + members
        found = pooled_result(scores, members, rng=rng, rates=[0.01], resamples=60)
        plain = attack_result(scores[members], scores[~members], rates=[0.01])
        assert found.auc.value == pytest.approx(plain.auc.value, abs=1e-12)
        assert found.advantage.value == pytest.approx(plain.advantage.value)
        low, same = found.tpr_at_fpr[0], plain.tpr_at_fpr[0]
        assert (low.tpr.value, low.fpr.value) == (same.tpr.value, same.fpr.value)
        pooled += low.tpr.low <= truth <= low.tpr.high
        naive += same.tpr.low <= truth <= same.tpr.high
    assert pooled >= 34
    assert naive <= 30


def test_pooled_scores_without_a_leak_show_none():
    rng = np.random.default_rng(15)
    members = rng.random((8, 100)) < 0.5
    scores = rng.integers(0, 30, (8, 100))  # ties
    found = pooled_result(scores, members, rng=rng, resamples=100)
    assert found.auc.low <= 0.5 <= found.auc.high
    assert found.advantage.low == 0.0
    assert found.tpr_at_fpr[1].tpr is None
    assert found.tpr_at_fpr[1].note.startswith("too few: FPR 0.001 needs 1000 non-members")
    assert found.members + found.nonmembers == 800


# --- Shadow models ---


def rows(units=24, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=(units, 5)).astype(np.float32),
        "y": rng.integers(0, 3, units).astype(np.int32),
    }


def logits_of(params, unit):
    return jnp.tanh(unit["x"] @ params["in"]) @ params["out"]


def loss(params, unit):
    return -jax.nn.log_softmax(logits_of(params, unit))[unit["y"]]


def start(key):
    values = jax.random.normal(key, (64,)) / 2
    return {"in": values[:40].reshape(5, 8), "out": values[40:].reshape(8, 3)}


OPTIMIZER = optax.adam(3e-2)
shadows_of = functools.partial(train_shadows, loss, OPTIMIZER, start)


@pytest.fixture(scope="module")
def pair():
    """Two models, at once."""
    units = rows()
    return units, shadows_of(units, models=2, key=jax.random.key(3), steps=5, batch=4)


def test_two_models_at_once_are_two_trainings_one_after_another(pair):
    """The oracle: plain Python, one model, one step at a time, on batches by the same keys."""
    units, found = pair
    for model in range(2):
        key = jax.random.fold_in(jax.random.key(3), model)
        own = np.flatnonzero(found.membership[model])
        assert len(own) == 12
        params = start(jax.random.fold_in(key, 1))
        state = OPTIMIZER.init(params)
        for step in range(5):
            drawn = jax.random.fold_in(jax.random.fold_in(key, 2), step)
            batch = own[np.int32(np.asarray(jax.random.uniform(drawn, (4,))) * 12)]
            grads = [jax.grad(loss)(params, {k: v[row] for k, v in units.items()}) for row in batch]
            mean = jax.tree.map(lambda *leaves: sum(leaves) / jnp.float32(4), *grads)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = OPTIMIZER.update(mean, state, params)
            params = optax.apply_updates(params, updates)
        for name, leaf in params.items():
            np.testing.assert_allclose(found.params[name][model], leaf, atol=2e-6)
            assert np.abs(leaf - start(jax.random.fold_in(key, 1))[name]).max() > 1e-3


def test_a_model_does_not_depend_on_how_many_train_beside_it(pair):
    units, two = pair
    told = []
    three = shadows_of(
        *(units,),
        models=3,
        key=jax.random.key(3),
        steps=5,
        batch=4,
        at_once=2,
        on_progress=lambda done, of: told.append((done, of)),
    )
    assert told == [(2, 3), (3, 3)]
    np.testing.assert_array_equal(two.membership, three.membership[:2])
    for name, leaf in two.params.items():
        np.testing.assert_allclose(leaf, three.params[name][:2], atol=1e-6)
    assert three.params["in"].shape == (3, 5, 8)


def tally(params, unit):
    """A loss by which the weights count how often each unit came."""
    return 1e3 * params[unit["place"]]


def counted(*, models=6, **options):
    units = {"place": np.arange(24, dtype=np.int32)}
    return train_shadows(
        *(tally, optax.sgd(1.0), lambda key: jnp.zeros(24), units),
        models=models,
        key=jax.random.key(1),
        **options,
    )


@pytest.mark.parametrize("include", [0.5, 0.25])
def test_each_model_has_its_own_part_of_the_units(include):
    found = shadows_of(rows(), models=40, key=jax.random.key(0), steps=1, batch=2, include=include)
    assert (found.membership.sum(1) == 24 * include).all()
    assert len({tuple(member) for member in found.membership}) == 40
    # Every unit is in some 40 * include models, each by itself: a fixed number would tell.
    counts = found.membership.sum(0)
    assert counts.std() > 1.0
    assert abs(counts.mean() - 40 * include) < 1e-9


def test_a_model_trains_on_its_own_units_alone_and_alike():
    found = counted(steps=200, batch=5)
    came = -found.params / (1e3 / 5)
    assert (came[~found.membership] == 0).all()
    np.testing.assert_allclose(came.sum(1), 1000, rtol=1e-4)
    # 1000 draws among 12 units: 83.3 each, deviation 8.7.
    assert abs(came[found.membership] - 1000 / 12).max() < 5 * 8.7


def test_private_shadows_are_drawn_and_bounded_as_the_plan_says():
    plan = PrivacyPlan(
        clip_norm=0.5, noise_multiplier=0.0, sample_rate=0.5, expected_batch=6, steps=50
    )
    found = counted(private_plan=plan)
    # A gradient of 1000 is bounded to 0.5, and the step divides by 6: each draw counts once.
    came = -found.params / (0.5 / 6)
    assert (came[~found.membership] == 0).all()
    own = came[found.membership]
    np.testing.assert_allclose(own, np.round(own), atol=1e-2)
    # Binomial: 50 steps at 0.5, 72 pairs of a model and a unit.
    assert abs(own.mean() - 25) < 5 * np.sqrt(12.5 / 72)
    assert 6 < own.var() < 21


def test_private_shadows_keep_a_bound_for_each_layer():
    plan = PrivacyPlan(
        clip_norm={"a": 0.5, "b": 0.25},
        noise_multiplier=0.0,
        sample_rate=1.0,
        expected_batch=12,
        steps=1,
    )
    found = train_shadows(
        lambda params, unit: 1e3 * unit * (params["a"] - params["b"]),
        optax.sgd(1.0),
        lambda key: {"a": jnp.zeros(()), "b": jnp.zeros(())},
        np.ones(24, np.float32),
        models=2,
        key=jax.random.key(2),
        private_plan=plan,
    )
    np.testing.assert_allclose(found.params["a"], -0.5, rtol=1e-5)
    np.testing.assert_allclose(found.params["b"], 0.25, rtol=1e-5)


def test_private_shadows_get_the_noise_of_the_plan():
    plan = PrivacyPlan(
        clip_norm=0.5, noise_multiplier=3.0, sample_rate=0.5, expected_batch=6, steps=4
    )
    found = train_shadows(
        lambda params, unit: 0.0 * params.sum() * unit,
        optax.sgd(1.0),
        lambda key: jnp.zeros((40, 50)),
        np.ones(24, np.float32),
        models=2,
        key=jax.random.key(2),
        private_plan=plan,
    )
    expected = 3.0 * 0.5 / 6 * np.sqrt(4)  # four steps
    assert found.params.std() == pytest.approx(expected, rel=0.05)
    assert abs(np.corrcoef(found.params.reshape(2, -1))[0, 1]) < 0.1


def test_dropout_gets_a_key_of_each_unit():
    def noisy(params, unit, key):
        return params["w"] * jax.random.normal(key) + 0.0 * unit

    def train(**options):
        return train_shadows(
            noisy,
            optax.sgd(1.0),
            lambda key: {"w": jnp.zeros(())},
            np.zeros(8, np.float32),
            models=3,
            key=jax.random.key(0),
            **options,
        ).params["w"]

    plan = PrivacyPlan(
        clip_norm=9.0, noise_multiplier=0.0, sample_rate=0.5, expected_batch=2, steps=2
    )
    for found in (train(steps=2, batch=3), train(private_plan=plan)):
        assert len(set(found.tolist())) == 3


def test_values_of_models_are_those_of_one_at_a_time(pair):
    units, found = pair
    said = model_values(logits_of, found.params, units, batch_size=7)
    one = jax.tree.map(lambda leaf: leaf[1], found.params)
    expected = [logits_of(one, {k: v[row] for k, v in units.items()}) for row in range(24)]
    np.testing.assert_allclose(said[1], np.array(expected), atol=1e-5)
    assert said.shape == (2, 24, 3)


@pytest.mark.slow
def test_attacks_with_shadows_find_members_that_the_loss_does_not():
    """Half of the labels follow a rule and are easy, half are of chance and learnt by heart."""
    units = rows(120, seed=1)
    rule = (units["x"][:, 0] > 0).astype(np.int32)
    units["y"] = np.where(np.arange(120) % 2 == 0, rule, units["y"])
    found = shadows_of(units, models=24, key=jax.random.key(5), steps=150, batch=16)
    logits = model_values(logits_of, found.params, units)
    confidence = logit_confidence(logits, units["y"])
    chances = true_class_probability(logits, units["y"])
    who = found.membership
    scores = {
        "loss": -class_loss(logits, units["y"]),
        "lira": leave_one_out(functools.partial(lira, variance="global"), confidence, who),
        "rmia": leave_one_out(informia, chances, who),
    }
    areas = {
        name: pooled_result(one, who, rng=np.random.default_rng(0), resamples=50).auc
        for name, one in scores.items()
    }
    assert areas["lira"].value > areas["loss"].value + 0.03
    assert areas["rmia"].value > areas["loss"].value + 0.03
    # Membership of other models says nothing about a target's scores.
    mixed = pooled_result(scores["lira"], who[::-1], rng=np.random.default_rng(0), resamples=50)
    assert mixed.auc.low <= 0.5 <= mixed.auc.high


_ON_DEVICES = """
import jax, jax.numpy as jnp, numpy as np, optax
from trustml.audit.attacks import train_shadows
how = dict(models=10, key=jax.random.key(0), steps=3, batch=2, at_once=5)
rows = np.arange(12, dtype=np.float32)
train = lambda devices: train_shadows(
    lambda w, x: (w - x) ** 2, optax.sgd(0.1), jax.random.normal, rows, devices=devices, **how)
every, one = train(None), train(jax.devices()[:1])
assert len(jax.devices()) == 8 and every.params.shape == (10,)
np.testing.assert_allclose(every.params, one.params, rtol=1e-5)
np.testing.assert_array_equal(every.membership, one.membership)
"""


@pytest.mark.slow
def test_models_spread_over_devices_are_the_same_models():
    flags = "--xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", _ON_DEVICES], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# --- Refusals ---

VALUES, THREE, MEMBERS = shadow_signals(16, models=3)[0][:4], np.ones((3, 4)), np.ones((3, 4), bool)
HALF = np.array([[True] * 4, [False] * 4, [False] * 4])
VARIED = np.arange(12.0).reshape(3, 4)


def _with_nan(array):
    return np.where(np.arange(4) == 2, np.nan, array)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: lira(VALUES, THREE, HALF),
            "at least 4 models for online LiRA with per_exam.*, got 3",
        ),
        (
            lambda: lira(VALUES, THREE, MEMBERS, variant="offline"),
            "at least 2 models trained without each unit, got 0 for unit 0 .too few for 4 of 4",
        ),
        (
            lambda: lira(VALUES, VARIED, ~MEMBERS, variance="global"),
            "at least 1 models trained with each unit, got 0",
        ),
        (lambda: lira(VALUES, THREE, ~MEMBERS, variant="offline"), "`shadows` must differ in what"),
        pytest.param(
            lambda: lira(VALUES, THREE, HALF, variant="both"),
            "`variant` must be one of online, off",
            marks=pytest.mark.kinds,
        ),
        (lambda: lira(_with_nan(VALUES), THREE, HALF), "`target` must be finite, got nan at .2,."),
        (
            lambda: lira(VALUES, _with_nan(THREE), HALF),
            "`shadows` must be finite, got nan at .0, 2",
        ),
        (
            lambda: lira(VALUES, THREE[:, :3], HALF),
            r"`shadows` must hold for each model what.*\(4,\)",
        ),
        (lambda: lira(VALUES, THREE, HALF * 1), "`membership` must hold a truth value.*got int64"),
        (lambda: lira(VALUES, THREE, HALF[:2]), "`membership` must hold a truth value.*2, 4"),
        (lambda: calibrated_loss(VALUES, THREE, MEMBERS), "trained without each unit, got 0"),
        (lambda: informia(np.ones(4), THREE[:1], HALF[:1]), "at least 2 models for online RMIA"),
        (lambda: informia(np.ones(4), THREE, MEMBERS), "at least 1 models trained without"),
        (lambda: informia(np.ones(4), 2 * THREE, HALF), "`shadows` must be probabilities in .0, 1"),
        (lambda: informia(np.ones(4), 0 * THREE, HALF), "some probability, got 0 from all"),
        (lambda: informia(np.ones(4), THREE, HALF, variant="offline", a=1.5), "`a` must be in"),
        (
            lambda: rmia(
                np.ones(4), THREE, HALF, population=np.ones(2), population_shadows=np.ones((2, 2))
            ),
            "`population_shadows` must be of the 3 shadow models, got 2",
        ),
        (
            lambda: rmia(
                *(np.ones(4), THREE, HALF),
                population=np.ones(2),
                population_shadows=np.ones((3, 2)),
                gamma=0.0,
            ),
            "`gamma` must be positive, got 0.0",
        ),
        (lambda: tune_a(THREE[:1], HALF[:1]), "at least 2 models for choosing `a`, got 1"),
        (lambda: tune_a(THREE, HALF, grid=()), "`grid` must hold at least one"),
        (
            lambda: learned_attack(
                np.ones((4, 2)), np.ones((3, 4, 3)), HALF, [0, 1, 0, 1], key=jax.random.key(0)
            ),
            "shadows are of the target's shape",
        ),
        (
            lambda: learned_attack(
                np.ones((4, 2)), np.ones((3, 4, 2)), MEMBERS, [0] * 4, key=jax.random.key(0)
            ),
            "one kind alone",
        ),
        (lambda: leave_one_out(lira, THREE, HALF[:2]), "leading axis of the 2 models, got .*3"),
        (lambda: leave_one_out(lira, THREE[:1], HALF[:1]), "at least 2 models for leaving one out"),
        (
            lambda: leave_one_out(lira, THREE, HALF, targets=4),
            "`targets` must be from 1 to 3, got 4",
        ),
        (
            lambda: split_scores(VALUES, [0, 1], [1, 2]),
            "must not share units, got 1 in both.*unit 1",
        ),
        (lambda: split_scores(VALUES, [0, 0], [1, 2]), "`members` must name each unit once"),
        (lambda: split_scores(VALUES, [0], [4]), "`nonmembers` must be from 0 to 3, got 4 to 4"),
        (
            lambda: by_slice(VALUES, HALF[0], [0, 0, 1, 1]),
            "`slices` must hold one with two members",
        ),
        (lambda: by_slice(VALUES, HALF[0], [0, 0, 1, -2]), "`slices` must be -1 .* got -2"),
        (
            lambda: by_slice(VALUES, HALF[0], [0, 0, 1, 2], names=["a"]),
            "`names` must name each of 3",
        ),
        (lambda: by_slice(VALUES, HALF[0], [0, 0, 1]), "must be vectors of one length"),
        (
            lambda: pooled_result(_with_nan(THREE), HALF, rng=np.random.default_rng(0)),
            "must not hold NaN",
        ),
        (lambda: pooled_result(THREE, MEMBERS, rng=np.random.default_rng(0)), "one kind alone"),
        (lambda: pooled_result(THREE[:1], HALF[:1], rng=np.random.default_rng(0)), "two targets"),
        (lambda: logit_confidence([[1.0]], [0]), "`logits` must score two classes or more"),
        (
            lambda: logit_confidence([[1.0, np.inf]], [0]),
            "`logits` must be finite, got inf at .0, 1",
        ),
        (lambda: logit_confidence([[1.0, 2.0]], [2]), "`labels` must be from 0 to 1, got 2 to 2"),
        (lambda: class_loss([[1.0, 2.0]], [0.0]), "`labels` must be integers, got float64"),
        (lambda: over_words([[1.0]], [[False]]), "`mask` must leave something of every sequence"),
        (lambda: min_k([[-1.0]], part=0.0), "`part` must be in .0, 1., got 0.0"),
        (lambda: min_k_plus_plus([[-1.0]], [[-1.0]], [[0.0]]), "`std` must be positive where"),
        (lambda: zlib_ratio([[-1.0]], [b"a", b"b"]), "`texts` must hold one text for each unit"),
    ],
)
def test_messages_name_the_argument_and_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def plan_with(**changes):
    fields = {"clip_norm": 1.0, "noise_multiplier": 1.0, "sample_rate": 0.5, "steps": 4}
    return PrivacyPlan(**{**fields, "expected_batch": 6, **changes})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 2}, "`steps` and `batch` must be given, or `private_plan`"),
        (
            {"steps": 2, "batch": 2, "private_plan": plan_with()},
            "`steps` and `batch` must be given",
        ),
        ({"steps": 0, "batch": 2}, "`steps` must be at least 1, got 0"),
        ({"steps": 2, "batch": 2, "include": 0.0}, "`include` must be in .0, 1., got 0.0"),
        (
            {"steps": 2, "batch": 2, "include": 0.01},
            "leave each model a unit, got none for model 0",
        ),
        ({"steps": 2, "batch": 2, "at_once": 0}, "`at_once` must be at least 1, got 0"),
        (
            {"steps": 2, "batch": 2, "membership": np.ones((1, 24), bool)},
            "`membership` must hold a truth value for each model and unit, .2, 24., got bool",
        ),
        (
            {"private_plan": plan_with(expected_batch=20)},
            "12 of them, got one for 40",
        ),
        ({"private_plan": plan_with(noise_decay=0.9)}, "must have `noise_decay`=1.0, as shadows"),
        (
            {"private_plan": plan_with(sampling="truncated_poisson", capacity=12)},
            "must have `sampling`='poisson', as shadows are trained, got 'truncated_poisson'",
        ),
    ],
)
def test_trainings_that_shadows_cannot_repeat_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        shadows_of(rows(), models=2, key=jax.random.key(0), **options)


# --- Benches ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "rivals"),
    [
        ("shadows", ["--cases", "mlp"], {"one by one", "together", "step by step"}),
        (
            "membership",
            ["--cases", "digits", "--trainings", "overfitted"],
            {"loss threshold", "Shokri", "LiRA online", "RMIA offline", "RMIA continuous, online"},
        ),
    ],
)
def test_the_quick_form_of_a_bench_prints_one_json_line_per_rival(
    name, arguments, rivals, monkeypatch, capsys, relaxed_promotion
):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    bench = importlib.import_module(name)
    assert bench.main(["--quick", *arguments]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[:1] == "{"]
    assert rivals <= {line["rival"] for line in lines}
    fields = {"bench", "case", "rival", "median_ms", "ratio", "temp_bytes", "device", "jax"}
    assert all(set(line) >= fields and line["bench"] == name for line in lines)
    with pytest.raises(SystemExit):
        bench.main(["--cases", "nothing"])
    assert "got 'nothing'" in capsys.readouterr().err
