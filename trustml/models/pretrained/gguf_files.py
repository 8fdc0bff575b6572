"""Models in a GGUF file, the format of llama.cpp: configuration, tensors and tokenizer."""

import dataclasses
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trustml.formatting import one_line
from trustml.models.pretrained.checkpoints import Tensors
from trustml.models.tokenizers.gguf_vocabulary import read_vocabulary
from trustml.models.tokenizers.text_tokenizer import TextTokenizer
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.rope import Rope

SUFFIX = ".gguf"
_KINDS = ("llama", "qwen2", "qwen3")  # architectures of GGUF, named as transformers names them
_CHUNK = 1 << 22  # numbers that are dequantised at once
# Their names to those of transformers; {i} is a layer.
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "blk.{i}.attn_norm": "model.layers.{i}.input_layernorm",
    "blk.{i}.attn_q": "model.layers.{i}.self_attn.q_proj",
    "blk.{i}.attn_k": "model.layers.{i}.self_attn.k_proj",
    "blk.{i}.attn_v": "model.layers.{i}.self_attn.v_proj",
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.o_proj",
    "blk.{i}.attn_q_norm": "model.layers.{i}.self_attn.q_norm",
    "blk.{i}.attn_k_norm": "model.layers.{i}.self_attn.k_norm",
    "blk.{i}.ffn_norm": "model.layers.{i}.post_attention_layernorm",
    "blk.{i}.ffn_gate": "model.layers.{i}.mlp.gate_proj",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.up_proj",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.down_proj",
}
_SIZES = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
_FREQUENCIES = "rope_freqs.weight"


class _Stored(NamedTuple):
    """Where a tensor lies in the file."""

    shape: tuple[int, ...]
    kind: Any  # gguf.GGMLQuantizationType
    offset: int
    row_bytes: int


@dataclasses.dataclass(frozen=True)
class GgufFile:
    """What a GGUF file says before its tensors.

    Attributes:
      path: The file.
      metadata: Its fields, such as `general.architecture`.
      stored: Its tensors, by their names in GGUF.
    """

    path: Path
    metadata: dict[str, Any]
    stored: dict[str, _Stored]

    @classmethod
    def read(cls, path: Path) -> "GgufFile":
        """The metadata of a file, without its tensors.

        Raises:
          ValueError: `gguf` is not installed, or the file is broken or one of several parts.
        """
        try:
            from gguf import GGUFReader
        except ImportError:
            raise ValueError(
                f"{path} needs the package gguf: pip install 'trustml-jax[decoder]'."
            ) from None
        try:
            # A reader keeps an object per word of the vocabulary and maps the file: it is read
            # and dropped.
            reader = GGUFReader(path)
            metadata = {name: field.contents() for name, field in reader.fields.items()}
            stored = {one.name: _located(one) for one in reader.tensors}
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise ValueError(f"{path} must be a whole GGUF file: {one_line(error)}.") from None
        if (parts := metadata.get("split.count", 0)) > 1:
            raise ValueError(f"{path} must be a whole model, got one of {parts} parts; merge them.")
        return cls(path, metadata, stored)

    @property
    def architecture(self) -> str:
        """The architecture, such as "llama"."""
        return str(self.metadata.get("general.architecture"))

    def config(self) -> ModelConfig:
        """The configuration.

        Raises:
          ValueError: An architecture or an option that is not supported, or a missing field.
        """
        kind = self.architecture
        if kind not in _KINDS:
            raise ValueError(
                f"{self.path} must hold one of {', '.join(_KINDS)}, got the architecture {kind!r}."
            )
        for name, only in (("expert_count", 0), ("attention.sliding_window", 0)):
            if (value := self._get(name, only)) != only:
                raise ValueError(f"{self.path}: `{kind}.{name}` must be {only}, got {value!r}.")
        try:
            return ModelConfig.from_hf({"model_type": kind, **self._fields()})
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def _fields(self) -> dict[str, Any]:
        """The fields of a config.json."""
        fields = {ours: self._get(theirs) for ours, theirs in _SIZES.items()}
        lacking = [_SIZES[name] for name, value in fields.items() if value is None]
        lacking += [name for name in ("token_embd.weight",) if name not in self.stored]
        if lacking:
            raise ValueError(f"`{lacking[0]}` is missing.")
        heads = fields["num_attention_heads"]
        fields |= {
            # Stored in float32: 1e-5 would come back as 9.999999747378752e-06.
            "rms_norm_eps": float(str(np.float32(fields["rms_norm_eps"]))),
            "vocab_size": self.stored["token_embd.weight"].shape[0],
            "num_key_value_heads": self._get("attention.head_count_kv", heads),
            "head_dim": self._get("attention.key_length"),
            "tie_word_embeddings": "output.weight" not in self.stored,
            "attention_bias": "blk.0.attn_q.bias" in self.stored,
            "mlp_bias": "blk.0.ffn_up.bias" in self.stored,
        }
        for name in ("bos", "eos", "padding"):
            ours = "pad" if name == "padding" else name
            fields[f"{ours}_token_id"] = self.metadata.get(f"tokenizer.ggml.{name}_token_id")
        return fields | self._rope(fields["head_dim"] or fields["hidden_size"] // heads).to_hf()

    def _rope(self, width: int) -> Rope:
        if (turned := self._get("rope.dimension_count", width)) != width:
            raise ValueError(f"`rope.dimension_count` must be {width}, got {turned}.")
        theta = float(self._get("rope.freq_base", 10_000.0))
        kind = self._get("rope.scaling.type", "none")
        if _FREQUENCIES in self.stored:
            return _llama3(theta, GgufTensors(self).factors(), width)
        if kind == "none":
            return Rope(rope_theta=theta)
        given = {"rope_type": kind, "factor": self._get("rope.scaling.factor"), "rope_theta": theta}
        if kind == "yarn":
            given["original_max_position_embeddings"] = self._get(
                "rope.scaling.original_context_length"
            )
        return Rope.from_hf({"rope_parameters": given})

    def _get(self, name: str, default: Any = None) -> Any:
        return self.metadata.get(f"{self.architecture}.{name}", default)

    def tokenizer(self) -> TextTokenizer | None:
        """The tokenizer; None if the file has none.

        Raises:
          ValueError: A kind that is not supported.
        """
        return read_vocabulary(self.metadata, self.path)


class GgufTensors(Tensors):
    """The tensors of a GGUF file by their names in transformers, dequantised when they are read."""

    def __init__(self, file: GgufFile):
        self.folder, self.used, self._file = file.path, set(), file
        self._names = {_renamed(name): name for name in file.stored if name != _FREQUENCIES}
        self.files = dict.fromkeys(self._names, file.path)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self._file.stored[self._names[name]].shape

    def factors(self) -> np.ndarray:
        """The divisors of RoPE's frequencies that Llama 3 has."""
        return self._numbers(_FREQUENCIES)

    def _get(self, name: str) -> np.ndarray:
        array = self._numbers(self._names[name])
        self.used.add(name)
        part = re.search(r"\.self_attn\.([qk])_proj\.", name)
        if part is None or self._file.architecture != "llama":
            return array
        # llama.cpp turns neighbouring features of a head, transformers the two halves.
        heads = self._file.metadata["llama.attention.head_count"]
        if part[1] == "k":
            heads = self._file.metadata.get("llama.attention.head_count_kv", heads)
        pairs = array.reshape(heads, -1, 2, *array.shape[1:])
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(array.shape)

    def _numbers(self, name: str) -> np.ndarray:
        """The numbers of a tensor as float32."""
        import gguf

        stored = self._file.stored[name]
        rows = int(np.prod(stored.shape[:-1], dtype=np.int64))
        array = np.empty((rows, stored.shape[-1]), np.float32)
        step = max(1, _CHUNK // stored.shape[-1])
        with self._file.path.open("rb") as file:
            file.seek(stored.offset)
            for first in range(0, rows, step):
                count = min(step, rows - first)
                data = np.fromfile(file, np.uint8, count * stored.row_bytes)
                try:
                    array[first : first + count] = gguf.dequantize(
                        data.reshape(count, -1), stored.kind
                    )
                except NotImplementedError:
                    raise ValueError(
                        f"{self._file.path}: `{name}` has the quantisation {stored.kind.name}, "
                        "which gguf cannot read; take a file with another, such as Q8_0 or Q4_K."
                    ) from None
        return array.reshape(stored.shape)


def gguf_in(found: Path) -> Path | None:
    """The GGUF file that a model's file or folder is or holds; None for a folder of transformers.

    Raises:
      ValueError: The folder holds several.
    """
    if found.is_file():
        return found
    files = sorted(found.glob(f"*{SUFFIX}"))
    if (found / "config.json").exists() or not files:
        return None
    if len(files) > 1:
        raise ValueError(
            f"{found} must hold one GGUF file, got {len(files)}; name the file, such as {files[0]}."
        )
    return files[0]


def _located(tensor: Any) -> _Stored:
    shape = tuple(int(size) for size in reversed(tensor.shape))
    rows = int(np.prod(shape[:-1], dtype=np.int64))
    return _Stored(shape, tensor.tensor_type, int(tensor.data_offset), tensor.n_bytes // rows)


def _renamed(name: str) -> str:
    """A tensor's name in transformers; their own where transformers has none."""
    module, _, part = name.rpartition(".")
    number = re.match(r"blk\.(\d+)\.", module)
    general = module if number is None else module.replace(number[0], "blk.{i}.", 1)
    if general not in _NAMES:
        return f"model.{name}"  # counted as a part of the body, and refused if it stays unread
    return f"{_NAMES[general].format(i=number and number[1])}.{part}"


def _llama3(theta: float, divisors: np.ndarray, width: int) -> Rope:
    """The scaling of Llama 3, of which GGUF stores only the results."""
    scaled = Rope(
        rope_type="llama3",
        rope_theta=theta,
        factor=float(divisors.max()),
        original_max_position_embeddings=8192,
    )
    plain = Rope(rope_theta=theta).frequencies(width, 0, 8192)[0]
    if not np.allclose(plain / divisors, scaled.frequencies(width, 0, 8192)[0], rtol=1e-3):
        raise ValueError(f"`{_FREQUENCIES}` must be those of Llama 3, got others.")
    return scaled
