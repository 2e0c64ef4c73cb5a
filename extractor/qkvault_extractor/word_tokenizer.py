"""The tokenizer of a Transformer-XL: whole words, by a list of them in ``vocab.json``.

Its former class kept the list pickled, and a pickle runs code when it is opened; so it is not. What
it did before looking words up (punctuation set apart as in WikiText) has to have been done to the
texts: they are split at blanks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qkvault import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PICKLED: Final = ("vocab.pkl", "vocab.bin")
UNKNOWN: Final = ("<unk>", "<UNK>")
END: Final = "<eos>"


def load_words(folder: Path) -> PreTrainedTokenizerBase | None:
    """Make the tokenizer of a Transformer-XL's folder.

    Args:
        folder: of the model; ``vocab.json`` in it lists words by id, or maps them to ids.

    Returns:
        The tokenizer; None where the folder is another model's or has a ``tokenizer.json``.

    Raises:
        InputError: there is no such list, or it is none.
    """
    config = _read(folder / "config.json")
    is_ours = isinstance(config, dict) and config.get("model_type") == "transfo-xl"
    if not is_ours or (folder / "tokenizer.json").is_file():
        return None
    words = _read(folder / "vocab.json")
    if words is None:
        pickled = next((name for name in PICKLED if (folder / name).is_file()), None)
        found = f"its {pickled} is a pickle, which is never opened" if pickled else "it has none"
        raise InputError(
            f"model {folder} needs a tokenizer.json, or a list of its words as vocab.json: {found}"
        )
    return _make(folder, words)


def _make(folder: Path, words: Any) -> PreTrainedTokenizerBase:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate(words)} if isinstance(words, list) else words
    sound = isinstance(ids, dict) and all(isinstance(word, str) for word in ids)
    if not sound or sorted(ids.values()) != list(range(len(words))):
        raise InputError(f"{folder / 'vocab.json'} is neither a list of words nor words with ids")
    unknown = next((word for word in UNKNOWN if word in ids), None)
    if unknown is None:
        raise InputError(f"{folder / 'vocab.json'} lists no {UNKNOWN[0]}, for words it lacks")
    backend = Tokenizer(WordLevel(ids, unk_token=unknown))
    backend.pre_tokenizer = WhitespaceSplit()
    special = {"unk_token": unknown, **({"eos_token": END} if END in ids else {})}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)  # type: ignore[no-untyped-call]


def _read(path: Path) -> Any:
    """A JSON file's value; None if there is no such file or it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
