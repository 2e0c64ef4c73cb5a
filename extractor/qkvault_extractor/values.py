"""Whether what a model gave for a batch can be kept: sums of rows, sizes of vectors, logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from qkvault import InputError, decode_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qkvault_extractor.batch import Axes, Batch
    from qkvault_extractor.stacks import Site

ROW_SUM_TOLERANCE: Final = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-1}
"""How far from 1 an attention row may sum, by the precision the model runs in (rounding only)."""

LARGEST_HALF: Final = 65504.0
"""Largest float16."""


def check_sums(
    errors: NDArray[np.float32], tolerance: float, batch: Batch, sites: Sequence[Site]
) -> None:
    """Refuse attention whose rows do not sum to one.

    Args:
        errors: farthest that a row is off, ``(call, example)``.
        tolerance: how far it may be.
        batch: the examples.
        sites: where the calls belong.

    Raises:
        InputError: naming example and layer.
    """
    sound = errors <= tolerance  # false for NaN too
    if sound.all():
        return
    call, example = (int(i) for i in np.argwhere(~sound)[0])
    error = float(errors[call, example])
    what = "is not finite" if error != error else f"sums to 1 only within {error:.1e}"
    raise InputError(
        f"example {batch.ids[example]}: the attention of layer {sites[call].layer} "
        f"{what}; the model's weights overflow on it"
    )


def check_norms(
    norms: NDArray[np.float32],
    vectors: Sequence[str],
    batch: Batch,
    places: Sequence[tuple[Site, int, Axes]],
    buffers: Mapping[str, NDArray[Any]],
) -> None:
    """Refuse vectors that are not finite as they are stored.

    A norm bounds every value of the example; only where it is too large are they looked at.

    Args:
        norms: of each call's kept arrays in turn, ``(call * array, example)``.
        vectors: names of the kept arrays.
        batch: the examples.
        places: of each call: its site, the place of its layer, the sequences of its tokens.
        buffers: the unit's arrays, filled.

    Raises:
        InputError: naming example, array and layer.
    """
    for which, example in np.argwhere(~(norms <= LARGEST_HALF)).tolist():
        call, vector = divmod(which, len(vectors))
        name = vectors[vector]
        site, depth, axes = places[call]
        tokens = int(batch.side(axes[name != "query"])[example])
        codes = buffers[f"{site.stack}/{name}"][batch.rows[example], depth, :, :tokens]
        if not np.isfinite(decode_vectors(codes)).all():
            raise InputError(
                f"example {batch.ids[example]}: a {name} of layer {site.layer} is not "
                f"finite as {codes.dtype}; use --precision float32, or another model"
            )


def check_logits(logits: NDArray[np.float32], batch: Batch) -> None:
    """Refuse logits that are not finite.

    Raises:
        InputError: naming the example.
    """
    bad = np.flatnonzero(~np.isfinite(logits).all(-1))
    if len(bad):
        raise InputError(f"example {batch.ids[bad[0]]}: its logits are not finite")
