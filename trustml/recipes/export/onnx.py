"""A trained network as an ONNX file, converted by jax2onnx and compared with JAX."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from trustml.formatting import one_line
from trustml.recipes.export.function import Inference, inference, write_rest
from trustml.recipes.export.names import ONNX
from trustml.recipes.finished import FinishedRun

_TOLERANCE = 1e-4


def write_onnx(folder: Path, run: FinishedRun) -> Mapping[str, str]:
    """The function with its weights, for any number of rows.

    Raises:
      ValueError: The converter is not installed, lacks an operation of the network, or gives other
        results than JAX.
    """
    made = inference(run)
    (folder / ONNX).write_bytes(_convert(made))
    _compare(folder / ONNX, made)
    return {ONNX: "network and weights, for onnxruntime", **write_rest(folder, made)}


def _convert(made: Inference) -> bytes:
    try:
        from jax2onnx import to_onnx
    except ImportError:
        raise ValueError(
            '`--to onnx` needs jax2onnx and onnxruntime: pip install "trustml-jax[onnx]" and then '
            "pip install --no-deps jax2onnx, which asks for an older version of another package."
        ) from None
    from jax.extend.core import jaxpr_as_fun

    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns of shapes that it infers later

    # Traced here: the converter's own tracing replaces layers of flax by ones without a batch rule.
    specs = made.specs()
    closed = jax.make_jaxpr(made.function)(*specs)
    try:
        model: Any = to_onnx(
            lambda *arrays: jaxpr_as_fun(closed)(*arrays),
            specs,
            input_names=list(made.inputs),
            output_names=list(made.outputs),
        )
    except (NotImplementedError, TypeError, jax.errors.JAXTypeError) as error:
        reason = one_line(error)
        raise ValueError(
            f"`--to` must be another format for this network, got onnx, whose converter says: "
            f"{reason:.200} Try jax."
        ) from None
    return model.SerializeToString()


def _compare(path: Path, made: Inference) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # a warning of each constant that it removes is none of ours
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found = session.run(list(made.outputs), dict(made.inputs))
    for name, one, wanted in zip(
        made.outputs, found, made.function(*made.inputs.values()), strict=True
    ):
        gap = float(np.max(np.abs(one - np.asarray(wanted))))
        if not gap <= _TOLERANCE:
            raise ValueError(
                f"`--to` must be another format for this network, got onnx, whose {name} differ "
                f"from JAX's by {gap:.2g}. Try jax."
            )
