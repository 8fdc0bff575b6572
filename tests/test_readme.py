"""The README's code runs as it stands."""

import re
from pathlib import Path

import jax

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_loop_runs_and_is_as_short_as_promised(capsys):
    loop, on_a_mesh = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in loop.splitlines() if line.strip()]) <= 24
    names = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for code in (loop, on_a_mesh):
            exec(compile(code, "README.md", "exec"), names)
    assert int(names["state"].step) == names["plan"].steps
    shown = capsys.readouterr().out
    assert re.match(r"Promise: \((2\.9\d+|3\.0), 1e-05\)-differential privacy", shown)


def test_no_table_is_missing():
    assert "<!--" not in README
