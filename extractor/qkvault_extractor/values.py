"""Whether what a model gave for a batch can be kept: sums of rows, sizes of vectors, logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from qkvault import decode_vectors
from qkvault_extractor.unfit import OVERFLOW, Flaw

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qkvault_extractor.batch import Axes, Batch
    from qkvault_extractor.stacks import Site

ROW_SUM_TOLERANCE: Final = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-1}
"""How far from 1 an attention row may sum, by the precision the model runs in (rounding only)."""

LARGEST_HALF: Final = 65504.0
"""Largest float16."""


Found = Iterator[tuple[int, Flaw]]
"""Places of examples in their batch, each with what is wrong; one may come several times."""


def find_wrong_sums(errors: NDArray[np.float32], tolerance: float, sites: Sequence[Site]) -> Found:
    """Find attention whose rows do not sum to one.

    Args:
        errors: farthest that a row is off, ``(call, example)``.
        tolerance: how far it may be.
        sites: where the calls belong.
    """
    for call, example in np.argwhere(~(errors <= tolerance)).tolist():  # NaN is none of both
        error = float(errors[call, example])
        what = "is not finite" if error != error else f"sums to 1 only within {error:.1e}"
        yield example, Flaw(f"the attention of layer {sites[call].layer} {what}", OVERFLOW)


def find_large_vectors(
    norms: NDArray[np.float32],
    vectors: Sequence[str],
    batch: Batch,
    places: Sequence[tuple[Site, int, Axes]],
    buffers: Mapping[str, NDArray[Any]],
) -> Found:
    """Find vectors that are not finite as they are stored.

    A norm bounds every value of the example; only where it is too large are they looked at.

    Args:
        norms: of each call's kept arrays in turn, ``(call * array, example)``.
        vectors: names of the kept arrays.
        batch: the examples.
        places: of each call: its site, the place of its layer, the sequences of its tokens.
        buffers: the unit's arrays, filled.
    """
    for which, example in np.argwhere(~(norms <= LARGEST_HALF)).tolist():
        call, vector = divmod(which, len(vectors))
        name = vectors[vector]
        site, depth, axes = places[call]
        tokens = int(batch.side(axes[name != "query"])[example])
        codes = buffers[f"{site.stack}/{name}"][batch.rows[example], depth, :, :tokens]
        if not np.isfinite(decode_vectors(codes)).all():
            reason = f"a {name} of layer {site.layer} is not finite as {codes.dtype}"
            yield example, Flaw(reason, "use --precision float32, or another model")


def find_wrong_logits(logits: NDArray[np.float32]) -> Found:
    """Find logits that are not finite, ``(example, output)``."""
    for example in np.flatnonzero(~np.isfinite(logits).all(-1)).tolist():
        yield example, Flaw("its logits are not finite", OVERFLOW)
