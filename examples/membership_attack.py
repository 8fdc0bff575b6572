"""What a model gives away about its rows: an overfitted one, and one trained with privacy.

    python examples/membership_attack.py

Expected, within 20 seconds on two CPU cores, give or take a few hundredths:

    private: epsilon 2.24 at delta 0.0001; plain: none
    plain   AUC 0.928 [0.914, 0.941]
    plain   advantage 0.794 [0.661, 0.926]
    plain   TPR at FPR 0.01: 0.090 [0.060, 0.128]
    plain   TPR at FPR 0.001: 0.040 [0.021, 0.069]
    private AUC 0.598 [0.562, 0.634]
    private advantage 0.155 [0.023, 0.288]
    private TPR at FPR 0.01: 0.027 [0.012, 0.052]
    private TPR at FPR 0.001: 0.010 [0.002, 0.029]

The seed is fixed, so the private run can be repeated; a run to be relied on takes no seed.
"""

import jax
import optax

import trustml
from trustml import data
from trustml.audit import loss_threshold_attack, unit_losses
from trustml.data import synthetic
from trustml.models.joint import nlu

FIELDS = ("tokens", "mask", "tags", "intent")


def main(rows: int = 300, steps: int = 150, others: int = 1000):
    """Attacks both models by their losses; returns the two results."""
    splits = synthetic.generate(train=rows, valid=1, test=others)
    tokens = data.hash_tokenizer(1024, hashes=1, affixes=0)
    member, nonmember = (
        {name: data.encode(part, tokens, 12)[name] for name in FIELDS}
        for part in (splits.train, splits.test)
    )
    network = nlu.build(
        "conv",
        table_sizes=tokens.sizes,
        intents=len(splits.train.labels),
        tags=splits.train.tags,
        **{"features": 32, "layers": 1, "embedding": 32},
    )
    plan = trustml.PrivacyPlan(
        clip_norm=0.5, noise_multiplier=4.0, sample_rate=0.2, steps=steps, expected_batch=rows * 0.2
    )
    print(f"private: epsilon {plan.epsilon(delta=1e-4):.2f} at delta 0.0001; plain: none")
    makers = {"plain": trustml.baseline_step, "private": trustml.private_step}
    results = {}
    for name, maker in makers.items():
        step = maker(network.loss, optax.adam(1e-2), plan)
        start = network.init(jax.random.key(0))
        params = trustml.fit(step, start, member, seed=0, progress=False).params
        results[name] = found = loss_threshold_attack(
            unit_losses(network.loss, params, member), unit_losses(network.loss, params, nonmember)
        )
        auc, best = found.auc, found.advantage
        print(f"{name:8}AUC {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]")
        print(f"{name:8}advantage {best.value:.3f} [{best.low:.3f}, {best.high:.3f}]")
        for low in found.tpr_at_fpr:
            shown = low.note or f"{low.tpr.value:.3f} [{low.tpr.low:.3f}, {low.tpr.high:.3f}]"
            print(f"{name:8}TPR at FPR {low.rate:g}: {shown}")
    return results


if __name__ == "__main__":
    main()
