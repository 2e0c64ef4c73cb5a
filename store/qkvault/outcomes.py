"""What a model answered, and whether it was right."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .spec import Json

Prediction = int | float | None
"""Number of a class; the output itself where there is only one; None without a head."""


def prediction_of(logits: NDArray[np.float32] | None) -> Prediction:
    """Class with the largest output, or the output itself where it is the only one, or None."""
    if logits is None:
        return None
    return float(logits[0]) if len(logits) == 1 else int(logits.argmax())


def judge(label: Json, prediction: Prediction, label_names: tuple[str, ...]) -> bool | None:
    """Whether ``prediction`` is the class that ``label`` names; None where that cannot be said.

    A label names a class by its number or by its name in ``label_names``.
    """
    if not isinstance(prediction, int):
        return None
    if isinstance(label, int):
        return label == prediction
    if isinstance(label, str) and label in label_names:
        return label_names.index(label) == prediction
    return None
