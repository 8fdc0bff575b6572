"""Tasks on whole texts whose encoder is trained together with the head on its features."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from trustml.data.examples import Examples
from trustml.data.tokens import padded
from trustml.models.features import TextFeatures, build_feature_head
from trustml.models.finetuning import HEAD, build_finetuned, with_adapters, with_weights
from trustml.models.tasks.features import facts_of, start_head, texts_of
from trustml.models.tasks.labels import PROBLEM_TYPES, label_array, num_outputs, read_labels
from trustml.models.tasks.task import FINETUNED, Encoded, Task
from trustml.models.transformers.layers import Lora


def finetuning_task(
    schema: Examples,
    features: TextFeatures,
    *,
    lora: Lora | None,
    config: dict[str, Any],
    disclosures: Sequence[str] = (),
) -> Task:
    """A task for an encoder with a linear head on its features, both of which are trained.

    Args:
      schema: Any part of the data; only its task and labels are read, not its rows.
      features: The features, by the encoder that training starts from.
      lora: Low-rank adapters; None where the encoder's own weights are trained.
      config: Plain values from which `features` can be made again.
      disclosures: What data the encoder's weights come from.

    Returns:
      A task that starts as that of `features_task`: classes from the features of their names.
    """
    kind = schema.task
    adapted = with_adapters(features, lora)
    sizes = num_outputs(schema), PROBLEM_TYPES[kind]
    network = build_finetuned(adapted, *sizes)
    head = build_feature_head(features.width, *sizes)  # for features that are computed in batches

    def encode(examples: Examples) -> Encoded:
        arrays = {**_tokens(features, texts_of(examples)), "label": label_array(examples)}
        return Encoded(arrays, np.arange(len(examples)))

    def on_features(function, params, examples):
        found = with_weights(adapted, params)(texts_of(examples))
        return np.asarray(function({HEAD: params[HEAD]}, {"features": found}))

    def predict(params, examples, quick):
        del quick
        return read_labels(examples, on_features(head.predict, params, examples))

    def scores(params, examples):
        return on_features(jax.vmap(head.logits, (None, 0)), params, examples)

    def start(seed: int):
        weights = with_adapters(features, lora, seed=seed).encoder.params[0]
        return {**weights, HEAD: start_head(schema, features)}

    return Task(
        kind,
        network,
        encode,
        predict,
        start,
        {
            **config,
            "architectures": [FINETUNED],
            "task": kind,
            **facts_of(schema),
        },
        (features.encoder.tokenizer.statement, *disclosures),
        features.encoder.tokenizer,
        scores if schema.labels else None,
    )


def _tokens(features: TextFeatures, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """The tokens of each text, as the encoder reads them."""
    encoder, length = features.encoder, features.max_length
    encoded = encoder.tokenizer.encode_batch([encoder.prompt + text for text in texts], length)
    ids = [one.ids for one in encoded]
    mask = padded([[True] * len(row) for row in ids], length, kind=bool)
    return {"ids": padded(ids, length), "mask": mask}
