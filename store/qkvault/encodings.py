"""How each array's values are stored: type, meaning of a stored number, largest error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from .precision import DTYPES, MAX_ERROR
from .spec import Json, VaultSpec, vector_precision
from .vectors import VECTOR_ERROR

if TYPE_CHECKING:
    from .spec import ArrayName, VectorPrecision

VECTORS: Final = ("query", "key", "value")


def stored_dtype(spec: VaultSpec, name: str) -> str:
    """Numpy name of the type that holds ``attention``, ``query``, ``thumbnail``, ``logits``..."""
    if name == "attention":
        return DTYPES[spec.precision]
    if name == "thumbnail":
        return "uint8"
    return _vector_precision(spec, name) if name in VECTORS else "float32"


def _vector_precision(spec: VaultSpec, name: str) -> VectorPrecision:
    return vector_precision(cast("ArrayName", name), spec.precision, spec.vectors)


def encoding_of(spec: VaultSpec, name: str) -> dict[str, Json]:
    """What a stored number means, for a reader that knows nothing of QKVault."""
    dtype = stored_dtype(spec, name)
    if name == "thumbnail" or dtype == "uint8":
        return {
            "name": "square-root",
            "rule": "value = (code / 255) ** 2",
            "max_error": MAX_ERROR["uint8"],
        }
    if dtype == "uint16":
        return {
            "name": "linear",
            "rule": "value = code * scale",
            "scale": 1.0 / 65535.0,
            "max_error": MAX_ERROR["uint16"],
        }
    if name == "attention":
        return {"name": "identity", "max_error": MAX_ERROR[spec.precision]}
    kept = _vector_precision(spec, name)
    if kept == "int16":
        return {
            "name": "scaled",
            "rule": "value = code * scale; the last cell holds the upper 16 bits of the float32"
            " scale of its vector, the lower ones being 0",
            "max_error_of_largest": VECTOR_ERROR[kept],
        }
    return {"name": "identity", "max_relative_error": VECTOR_ERROR[kept]}


def max_error(spec: VaultSpec, name: str) -> float:
    """Largest error of a stored value: absolute, but relative for queries, keys and values."""
    if name in VECTORS:
        return VECTOR_ERROR[_vector_precision(spec, name)]
    return MAX_ERROR["uint8" if name == "thumbnail" else spec.precision]
