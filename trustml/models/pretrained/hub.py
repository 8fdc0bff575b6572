"""Folders of pretrained models by name, from the user's Hugging Face cache or a download."""

from pathlib import Path

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
)


def find_model(
    folder_or_name: str | Path, *, download: bool = False, endpoint: str | None = None
) -> Path:
    """The folder of a model, or its GGUF file.

    Args:
      folder_or_name: A folder, a GGUF file, or a name such as
        "distilbert/distilbert-base-uncased", which is searched in the user's Hugging Face cache.
      download: Whether to download missing files, with a progress bar.
      endpoint: Address to download from; by default that of Hugging Face.

    Raises:
      ValueError: There is no such folder, the cache lacks the name, or the download failed.
    """
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
        reason = " ".join(str(error).split()) or type(error).__name__
    if not download:
        raise ValueError(
            f"`folder_or_name` must be a folder or a model in the Hugging Face cache, got "
            f"{name!r}, which is neither; name a folder, or allow the download with download=True."
        )
    raise ValueError(
        f"{name} could not be downloaded: {reason[:300]} Name a folder that holds the model "
        "instead, or try again with a connection."
    )
