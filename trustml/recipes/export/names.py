"""Names of exported files: those who write them and the cards that say how to read them agree."""

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
JAX, ONNX = "model.jax", "model.onnx"
HEAD, HEAD_FACTS = "head.safetensors", "head.json"  # beside an encoder
