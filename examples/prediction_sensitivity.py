"""Whom a model treats differently: accuracy and prediction sensitivity by way of speaking.

    python examples/prediction_sensitivity.py

Expected, within 20 seconds on two CPU cores, give or take a few hundredths:

    accuracy    general speech  0.887 [0.867, 0.904]
    accuracy    regional speech 0.860 [0.817, 0.895]
    accuracy    gap             +0.026 [-0.013, +0.073]
    sensitivity general speech  0.296 [0.284, 0.307]
    sensitivity regional speech 0.319 [0.297, 0.342]
    sensitivity gap             -0.023 [-0.048, +0.002]

Both gaps have zero in their interval: 1500 rows do not show that the model treats the groups
differently.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import trustml
from trustml import data
from trustml.data import synthetic
from trustml.fairness import accuracy_by_group, prediction_sensitivity, shifted_score
from trustml.models.joint import nlu
from trustml.models.joint.encoders import TokenEmbedding

FIELDS = ("tokens", "mask", "tags", "intent")


def main(rows: int = 4000, steps: int = 150, width: int = 16):
    """Trains on the corpus and compares its two groups; returns the comparison."""
    splits = synthetic.generate(train=rows, valid=1, test=1500)
    tokens = data.hash_tokenizer(1024, hashes=1, affixes=0)
    train, test = (data.encode(part, tokens, 12) for part in (splits.train, splits.test))
    network = nlu.build(
        "conv",
        table_sizes=tokens.sizes,
        intents=len(splits.train.labels),
        tags=splits.train.tags,
        **{"features": width, "layers": 1, "embedding": width},
    )
    plan = trustml.PrivacyPlan(  # of the baseline only the draws: it adds no noise
        clip_norm=1.0, noise_multiplier=0.0, sample_rate=128 / rows, steps=steps, expected_batch=128
    )
    step = trustml.baseline_step(network.loss, optax.adam(1e-2), plan)
    units = {name: train[name] for name in FIELDS}
    start = network.init(jax.random.key(0))
    params = trustml.fit(step, start, units, seed=0, progress=False).params

    names, held_out = splits.test.groups, {name: test[name] for name in FIELDS}
    intents, _ = network.predict(params, held_out)
    accuracy = accuracy_by_group(intents, test["intent"], test["group"], names=names)

    def score(params, unit):
        """The probability of the right intent."""
        return jax.nn.softmax(network.logits(params, unit)[0])[unit["intent"]]

    sensitivity = prediction_sensitivity(
        shifted_score(score, TokenEmbedding),
        params,
        np.zeros((*test["mask"].shape, width), np.float32),
        jax.tree.map(jnp.asarray, held_out),
        group=test["group"],
        names=names,
    )
    for title, found in (("accuracy", accuracy), ("sensitivity", sensitivity.comparison)):
        for mean in found.groups:
            print(f"{title:12}{mean.name:15} {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]")
        gap = found.largest
        print(f"{title:12}{'gap':15} {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]")
    return accuracy, sensitivity


if __name__ == "__main__":
    main()
