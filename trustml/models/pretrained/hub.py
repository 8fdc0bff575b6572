"""Pretrained models by name: of the registry, in the user's Hugging Face cache, or downloaded."""

from pathlib import Path

from trustml.formatting import one_line
from trustml.models.pretrained.fetching import fetch_model
from trustml.models.pretrained.registry import REGISTRY, find_files, locate

FILES = (
    "config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    # Of sentence-transformers; without them its folder would be read as a plain encoder.
    "modules.json",
    "sentence_*_config.json",
    "config_sentence_transformers.json",
    "*/config.json",
    "*/model*.safetensors",
)


def find_model(
    folder_or_name: str | Path, *, download: bool = False, endpoint: str | None = None
) -> Path:
    """The folder of a model, or its GGUF file.

    Args:
      folder_or_name: A name of the registry, such as "minilm"; a folder; a GGUF file; or a name
        such as "distilbert/distilbert-base-uncased", which is searched in the user's Hugging Face
        cache. "./minilm" is a folder, "minilm" the model of the registry.
      download: Whether to download missing files, with a progress bar.
      endpoint: Address to download from; by default that of the registry or of Hugging Face.

    Raises:
      ValueError: There is no such folder, the cache lacks the name, the download failed, or a file
        of the registry is not the published one.
    """
    if folder_or_name in REGISTRY:
        name = str(folder_or_name)
        if download and find_files(REGISTRY[name]) is None:
            fetch_model(name, address=endpoint)
        return locate(name)
    folder = Path(folder_or_name).expanduser()
    if folder.is_dir() or (folder.is_file() and folder.suffix == ".gguf"):
        return folder
    name = str(folder_or_name)
    if isinstance(folder_or_name, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ValueError(f"`folder_or_name` must be a folder that exists, got {name!r}.")
    from huggingface_hub import snapshot_download

    try:
        snapshot = snapshot_download(
            name, local_files_only=not download, allow_patterns=list(FILES), endpoint=endpoint
        )
        return Path(snapshot)
    except Exception as error:  # network, disk and the hub's own classes share no base
        reason = one_line(error)
    if not download:
        raise ValueError(
            f"`folder_or_name` must be a folder, a model in the Hugging Face cache, or one of "
            f"{', '.join(REGISTRY)}, got {name!r}, which is none of them; name a folder, or allow "
            "the download with download=True."
        )
    raise ValueError(
        f"{name} could not be downloaded: {reason[:300]} Name a folder that holds the model "
        "instead, or try again with a connection."
    )
