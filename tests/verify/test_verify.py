"""Every row of the verify command holds, and a row with a wrong value does not."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from trustml.noise import key_from_seed
from trustml.verify import CHECKS, accounting, noise


@pytest.fixture(scope="module")
def rows():
    return {
        "accounting": list(accounting.accounting_checks()),
        "noise": list(noise.noise_checks(key_from_seed(0))),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accounting", "noise"])
def test_every_row_holds(rows, name):
    assert name in CHECKS
    assert [row for row in rows[name] if not row.holds] == []
    assert len({row.check for row in rows[name]}) == len(rows[name]) >= 20


@pytest.mark.slow
def test_rows_can_be_written_as_json(rows):
    every = [*rows["accounting"], *rows["noise"]]
    text = json.dumps([row._asdict() | {"holds": row.holds} for row in every])
    assert "NaN" not in text
    assert "Infinity" not in text


@pytest.mark.slow
def test_a_wrong_published_value_does_not_hold(rows):
    for row in rows["accounting"]:
        factor = 0.9 if row.rule == "at most" else 1.1
        if row.rule.startswith("planted"):
            factor = 0.1
        assert not row._replace(published=factor * row.published).holds, row


@pytest.mark.slow
def test_values_that_are_not_numbers_never_hold(rows):
    for row in rows["accounting"]:
        assert not row._replace(ours=float("nan")).holds, row


def test_a_wrong_convention_does_not_hold(monkeypatch):
    real = accounting.SampledGaussian

    def doubled(**fields):
        return dataclasses.replace(real(**fields), noise_multiplier=2 * fields["noise_multiplier"])

    monkeypatch.setattr(accounting, "SampledGaussian", doubled)
    assert not any(row.holds for row in accounting._conventions() if "told" not in row.check)


@pytest.mark.slow
def test_planted_errors_are_in_the_table(rows):
    assert sum(row.rule.startswith("planted") for row in rows["accounting"]) >= 2
    assert sum(row.planted for row in rows["noise"]) >= 6


@pytest.mark.slow
def test_a_row_whose_planted_error_goes_unnoticed_does_not_hold(rows):
    for row in rows["noise"]:
        assert not row._replace(planted=not row.planted).holds, row


@pytest.mark.parametrize("scale", [0.98, 1.02])
def test_a_wrong_scale_does_not_hold(scale):
    values = np.random.default_rng(0).normal(size=noise.COUNT)
    assert all(row.holds for row in noise.moments(values))
    failed = {row.check for row in noise.moments(scale * values) if not row.holds}
    assert failed >= {"variance", "fourth moment", "Kolmogorov-Smirnov"}


def test_a_wrong_block_function_does_not_hold(monkeypatch):
    real = noise.chacha_blocks
    monkeypatch.setattr(noise, "chacha_blocks", lambda *args, rounds: real(*args, rounds=8))
    assert not any(row.holds for row in noise._vectors())


def test_short_tails_do_not_hold(monkeypatch):
    real = noise.block_normals
    monkeypatch.setattr(noise, "block_normals", lambda words: jnp.clip(real(words), -5.2, 5.2))
    values = np.random.default_rng(0).normal(size=1000)
    assert "largest value, in sigma" in {
        row.check for row in noise._support(values) if not row.holds
    }


def test_a_stream_that_ignores_the_step_does_not_hold(monkeypatch):
    real = noise.gaussian_like
    monkeypatch.setattr(noise, "gaussian_like", lambda tree, key, step: real(tree, key, 0 * step))
    first = next(noise._streams(key_from_seed(0)))
    assert not first.holds
