"""Measure how true vaults are to models of many architectures, and write docs/fidelity.md.

    python scripts/make_fidelity.py            # writes the document, about a minute
    python scripts/make_fidelity.py BLOOM T5   # prints the rows whose title holds one of these

The rows are those of ``tests/extractor/architectures.py``: tiny models of fixed random weights.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

if TYPE_CHECKING:
    from extractor.architecture import Architecture
    from extractor.fidelity import Figures

HEAD = """\
# Fidelity

How true a vault is to its model, by architecture. Each row is a tiny model with random weights
(fixed seeds) whose texts or features were extracted at float32 by the usual path, in batches
(texts padded), and compared with the model run by plain transformers code.
`scripts/make_fidelity.py` measures it all and writes this file; the same rows are tests
(`scripts/test.sh -m slow tests/extractor/test_architectures.py`).

- **captured by**: *interface* is transformers' attention interface; *operations* follows the
  operations of a model that computes attention in code of its own; *kernel* takes the operands of
  torch's fused attention function. The first that proves exact on a first batch is taken; a model
  for which none does is refused.
- **padding**: texts of unequal length share a batch, unless what fills up the shorter ones moves
  their attention, which the first batch tells: of ConvBERT, Funnel, CANINE, DeepSeek-V3.2 and GLM-5
  only texts of equal length do (`padded` in a vault's provenance).
- **windows and blocks**: attention that a model computes in windows or blocks is laid out over the
  example's own tokens, 0 where the model's rule gives no weight. A global token of Longformer or
  LED attends by a query of a projection of its own, which is the one that is kept of it.
  Summaries of blocks (LongT5) and global tokens that are none of the text's (Pegasus-X) take a part
  of a row's weight, which then sums to less than 1: `beside` of the stack says so, as does
  `qkvault info`.
- **stored**: largest difference of stored attention from the model's own `output_attentions`, over
  all examples, layers and heads. Where these are not what the model runs (†), the largest
  difference of attention times values from what torch's fused function gave. Where they are
  scores before softmax (‡), in all stacks or in some, the largest difference from their softmax.
  Where a model reports means over its heads (WavLM), the difference from the weights of each head
  that torch's multi-head attention gives when asked for them.
- **derived, float32 / float16**: largest difference of attention derived from queries and keys,
  kept as such, from that stored.
- **layers, heads, rule**: layers by the model's own numbers, heads (on key heads), their width, and
  by what recipe attention is derived; layers that are missing have no attention, or one over other
  tokens than the text's own.
"""

COLUMNS = """\
| architecture | captured by | stored | derived, float32 | derived, float16 | layers, heads, rule |
|---|---|---|---|---|---|
"""

REFUSED = """\
## Refused

What cannot be captured is refused by name, before anything is written.

| architecture | reason |
|---|---|
"""


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("titles", nargs="*", help="print only rows whose title holds one of these")
    titles = parser.parse_args().titles
    from extractor.architectures import ARCHITECTURES, GROUPS

    if titles:
        for row in ARCHITECTURES:
            if any(part.lower() in row.title.lower() for part in titles):
                print(format_row(row, measure(row)))
        return
    (ROOT / "docs" / "fidelity.md").write_text(make_document(GROUPS), encoding="utf-8")


def make_document(groups: dict[str, tuple[Architecture, ...]]) -> str:
    """Measure all rows; gives the document."""
    parts, refused = [HEAD], []
    for heading, rows in groups.items():
        measured = [(row, measure(row)) for row in rows]
        shown = [format_row(row, figures) for row, figures in measured if figures.way]
        refused += [format_row(row, figures) for row, figures in measured if not figures.way]
        if shown:
            parts.append(f"\n## {heading}\n\n{COLUMNS}" + "\n".join(shown) + "\n")
    return "".join([*parts, "\n", REFUSED, "\n".join(refused), "\n"])


def measure(row: Architecture) -> Figures:
    """Measure one row in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        return row.measure(Path(folder))


def format_row(row: Architecture, figures: Figures) -> str:
    """A row of one of the two tables."""
    notes = figures.notes.replace("|", "\\|")
    if not figures.way:
        return f"| {row.title} | {notes} |"
    stored = format_number(figures.difference) + (" ‡" if figures.of_scores else "")
    if figures.kernel_difference is not None:
        stored = format_number(figures.kernel_difference) + " †"
    cells = [
        row.title,
        figures.way,
        stored,
        format_number(figures.derived),
        format_number(figures.derived_half),
        notes,
    ]
    return "| " + " | ".join(cells) + " |"


def format_number(value: float | None) -> str:
    """Two digits, 0 for nothing at all, a dash for what was not measured."""
    if value is None:
        return "–"
    return f"{value:.1e}" if value else "0"


if __name__ == "__main__":
    main()
