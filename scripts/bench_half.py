"""How far attention of models in half precision is from what their queries and keys give.

    python scripts/bench_half.py            # prints the table of docs/scores.md
    python scripts/bench_half.py Llama T5   # rows whose title holds one of these

Each model runs over the same texts in float16 and in bfloat16, and keeps attention, queries and
keys as float32. Printed is the largest difference of a weight, and the largest share that any
difference has of the bound of ``qkvault.bound_derived``. Real models are left out where absent.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from _pytest.outcomes import Skipped  # noqa: E402

import qkvault  # noqa: E402
from extractor import models, test_derive, test_watched  # noqa: E402
from qkvault_extractor import ExtractOptions, extract  # noqa: E402

if TYPE_CHECKING:
    from qkvault import Vault

LENGTHS: Final = [3, 30, 8, 8, 70, 120]
PAIRS: Final = [(9, 4), (5, 12), (30, 7), (120, 60)]
MODELS: Final[dict[str, Callable[[Path], Path]]] = {
    "BERT": models.tiny_bert,
    "GPT-2": models.tiny_gpt2,
    "Llama": models.tiny_llama,
    "T5": lambda path: models.tiny_encoder_decoder(path, "t5"),
    "Gemma 2": test_derive.tiny_gemma2,
    "gpt-oss": test_derive.tiny_gpt_oss,
    "BLOOM": lambda path: test_watched.make(path.parent, "bloom"),
    "MPNet": lambda path: test_watched.make(path.parent, "mpnet"),
    "MiniLM, trained": lambda _: models.minilm(),
    "Llama of 260k weights, trained": lambda _: models.stories260k(),
}


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("titles", nargs="*", help="only rows whose title holds one of these")
    titles = [title.lower() for title in parser.parse_args().titles]
    print("| model | float16: largest | of the bound | bfloat16: largest | of the bound |")
    print("|---|---|---|---|---|")
    for title, make in MODELS.items():
        if not titles or any(part in title.lower() for part in titles):
            print(measure(title, make), flush=True)


def measure(title: str, make: Callable[[Path], Path]) -> str:
    """Measure one model; gives its row."""
    cells = [title]
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = make(Path(folder) / "model")
        except Skipped as reason:
            return f"| {title} | left out: {reason} | | | |"
        for dtype in ("float16", "bfloat16"):
            with extract_to(Path(folder), model, dtype, has_target=title == "T5") as vault:
                largest, share = compare(vault, dtype)
                assert qkvault.verify(vault.path, derive=True).ok
            cells += [f"{largest:.1e}", f"{share:.0%}"]
    return "| " + " | ".join(cells) + " |"


def extract_to(folder: Path, model: Path, dtype: Any, *, has_target: bool) -> Vault:
    """Extract the texts, or pairs of texts."""
    data, column = folder / "texts.jsonl", "target" if has_target else None
    if has_target:
        models.write_pairs(data, PAIRS)
    else:
        models.write_texts(data, LENGTHS)
    options = ExtractOptions(
        str(model),
        (str(data),),
        folder / dtype,
        device="cpu",
        dtype=dtype,
        precision="float32",
        target_column=column,
    )
    extract(options)
    return qkvault.open(options.out)


def compare(vault: Vault, dtype: str) -> tuple[float, float]:
    """Largest difference of derived from stored weights, and largest share of what is allowed."""
    largest = share = 0.0
    for example in vault:
        for name in example.stacks:
            view = example.stack(name)
            for layer, scaling, recipe in zip(
                view.spec.layers, view.spec.scaling, view.spec.recipe, strict=True
            ):
                query, key = view.query[layer], view.key[layer]
                derived = qkvault.derive_attention(query, key, scaling, recipe)
                allowed = qkvault.bound_derived(query, key, scaling, recipe, derived, dtype)
                difference = np.abs(derived - view.attention[layer])
                largest = max(largest, float(difference.max()))
                share = max(share, float((difference / allowed).max()))
    return largest, share


if __name__ == "__main__":
    main()
