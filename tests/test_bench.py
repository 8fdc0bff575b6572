"""Every bench runs its smallest case, so that none rots."""

import importlib.util
import json
from pathlib import Path

import jax
import pytest

BENCH = Path(__file__).parent.parent / "bench"
SCRIPTS = sorted(path.stem for path in BENCH.glob("[!_]*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_quick_form_prints_one_json_line_per_rival(name, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert module.main(["--quick", "--cases", "mlp"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[:1] == "{"]
    assert {"plain", "null", "trustml", "private step", "vmap"} <= {row["rival"] for row in rows}
    for row in rows:
        fields = {"bench", "case", "rival", "median_ms", "ratio", "temp_bytes", "device", "jax"}
        assert fields <= set(row)
