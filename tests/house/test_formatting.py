"""Bounds are rounded to the side on which they stay true, by two functions and nothing else."""

import ast
import itertools
import math
import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustml.formatting import round_down, round_up

ROOT = Path(__file__).parents[2] / "trustml"
BOUND = re.compile(r"epsilon|delta|\bupper\b|\blower\b|nearest")


@settings(derandomize=True, deadline=None)
@given(value=st.floats(1e-9, 1e9), digits=st.integers(1, 6), places=st.integers(0, 6))
def test_an_upper_bound_is_never_understated_nor_a_lower_one_overstated(value, digits, places):
    for how in ({"digits": digits}, {"places": places}):
        down, up = Decimal(round_down(value, **how)), Decimal(round_up(value, **how))
        assert down <= Decimal(value) * (1 + Decimal("1e-14"))
        assert up >= Decimal(value) * (1 - Decimal("1e-14"))


@pytest.mark.parametrize(
    ("value", "up", "down"),
    [
        (3.0, "3.000", "3.000"),
        (2.9999999, "3.000", "2.999"),
        (3.0000001, "3.001", "3.000"),
        (0.1 + 0.2, "0.300", "0.300"),  # what floats cannot tell apart is no part of a bound
        (1.1 * 3, "3.300", "3.300"),
        (math.inf, "infinite", "infinite"),
        (None, "none", "none"),
        (math.nan, "none", "none"),
    ],
)
def test_bounds_to_three_places(value, up, down):
    assert (round_up(value, places=3), round_down(value, places=3)) == (up, down)


def bounds_formatted_by_hand(source):
    """Lines that print a bound by a format of their own."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            value, spec = ast.unparse(node.value), ast.unparse(node.format_spec)
            by_hand = re.search(r"[feg%]'$", spec) and BOUND.search(value)
            if by_hand or re.search(r"math\.(ceil|floor)\(", value):
                found.append(node.lineno)
        # A value whose name says nothing, in a row or after words that call it epsilon.
        if isinstance(node, ast.List | ast.Tuple | ast.JoinedStr):
            parts = node.values if isinstance(node, ast.JoinedStr) else node.elts
            found += [
                last.lineno
                for first, last in itertools.pairwise(parts)
                if called_epsilon(first) and formatted(last)
            ]
    return sorted(set(found))


def called_epsilon(node):
    text = node.value if isinstance(node, ast.Constant) else ""
    if isinstance(node, ast.JoinedStr):
        text = node.values[0].value if isinstance(node.values[0], ast.Constant) else ""
        return bool(re.match(r"epsilon\b", str(text)))
    return bool(re.search(r"epsilon( is| of)?( below| at most| at least)? ?=?$", str(text)))


def formatted(node):
    if isinstance(node, ast.JoinedStr):
        return any(map(formatted, node.values)) and not any(
            isinstance(part, ast.Constant) and part.value.strip() for part in node.values
        )
    return (
        isinstance(node, ast.FormattedValue)
        and node.format_spec is not None
        and not ast.unparse(node.value).isupper()  # a constant, given and not computed
        and re.search(r"[feg%]'$", ast.unparse(node.format_spec)) is not None
    )


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.stem)
def test_no_bound_is_formatted_by_hand(path):
    if path.name == "formatting.py":
        return
    assert bounds_formatted_by_hand(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        'f"epsilon {epsilon:.3f}"',
        "f\"{side['epsilon']:.3f}\"",
        'f"epsilon below {self._known[1]:.3f}"',
        '[f"epsilon after {steps} steps", f"{value:.4f}"]',
        'f"{math.ceil(1e4 * value) / 1e4:.4f}"',
        'f"at delta {delta:g}"',
    ],
)
def test_the_scan_finds_a_bound_formatted_by_hand(line):
    assert bounds_formatted_by_hand(line) == [1]
