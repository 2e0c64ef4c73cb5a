"""QKVault keeps every attention head of a whole corpus, and shows any of it at once.

    import qkvault

    vault = qkvault.open("mrpc.vault")
    example = vault[17]
    example.tokens
    example.attention[3, 5]  # float32 (query_token, key_token): only the touched chunk is read

Importing this loads numpy and the standard library; what reads and writes bytes is loaded when
used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    InputError,
    MissingArray,
    NotFinite,
    OutOfRange,
    PlanMismatch,
    QKVaultError,
    ResourceError,
    UnitTaken,
    UnknownExample,
    VaultError,
    one_line,
)
from .recipe import Mask, Recipe, RelativeBias, Sinks
from .spec import (
    ARRAYS,
    DEFAULT_PRECISION,
    FORMAT_VERSION,
    PRECISIONS,
    READ_VERSIONS,
    STACKS,
    THUMBNAIL_SIDE,
    VECTOR_PRECISIONS,
    ArrayName,
    AttentionSource,
    Json,
    Label,
    Precision,
    Record,
    Stack,
    StackName,
    Target,
    VaultSpec,
    VectorPrecision,
    choose_vectors,
    vector_precision,
)

if TYPE_CHECKING:
    from .appending import append
    from .arithmetic import ARITHMETIC_ERROR, bound_derived, bound_weights, head_terms
    from .axes import Lengths, token_axes
    from .beginning import create, resume
    from .claims import LEASE_S
    from .copying import copy
    from .costs import forward_cost
    from .damages import Damage, VerifyReport
    from .example import Example
    from .exports import export
    from .heads import HeadArray
    from .leaving_out import leave_out
    from .measured import Metrics
    from .metrics import METRICS, WITHIN_ONE_SEQUENCE, TokenRoles, head_metrics, token_roles
    from .plan import VaultState
    from .precision import decode_attention, encode_attention, make_thumbnail
    from .progressing import Status, status
    from .remote import Place, locate
    from .repairing import Diagnosis, diagnose
    from .scan import Scan, ScanBatch, ScanItem
    from .scores import bias_by_distance, derive_attention, derive_scores, visible_range
    from .selection import Selection
    from .stack_view import StackView
    from .store import vault_state
    from .table import Page, Position, Table
    from .units import Receipt, Unit, UnitBuffer
    from .vault import Vault
    from .vectors import decode_vectors, encode_vectors
    from .verification import verify
    from .writer import VaultWriter

__version__ = "0.1.0"

_HOMES = {
    "append": "appending",
    "ARITHMETIC_ERROR": "arithmetic",
    "bound_derived": "arithmetic",
    "bound_weights": "arithmetic",
    "head_terms": "arithmetic",
    "Lengths": "axes",
    "token_axes": "axes",
    "LEASE_S": "claims",
    "copy": "copying",
    "forward_cost": "costs",
    "Example": "example",
    "StackView": "stack_view",
    "export": "exports",
    "leave_out": "leaving_out",
    "HeadArray": "heads",
    "Metrics": "measured",
    "METRICS": "metrics",
    "WITHIN_ONE_SEQUENCE": "metrics",
    "TokenRoles": "metrics",
    "head_metrics": "metrics",
    "token_roles": "metrics",
    "VaultState": "plan",
    "Diagnosis": "repairing",
    "diagnose": "repairing",
    "decode_attention": "precision",
    "decode_vectors": "vectors",
    "encode_attention": "precision",
    "encode_vectors": "vectors",
    "make_thumbnail": "precision",
    "vault_state": "store",
    "Scan": "scan",
    "ScanBatch": "scan",
    "ScanItem": "scan",
    "bias_by_distance": "scores",
    "derive_attention": "scores",
    "derive_scores": "scores",
    "visible_range": "scores",
    "Status": "progressing",
    "status": "progressing",
    "Selection": "selection",
    "Page": "table",
    "Position": "table",
    "Table": "table",
    "Place": "remote",
    "locate": "remote",
    "Receipt": "units",
    "Unit": "units",
    "UnitBuffer": "units",
    "Vault": "vault",
    "Damage": "damages",
    "VerifyReport": "damages",
    "verify": "verification",
    "VaultWriter": "writer",
    "create": "beginning",
    "resume": "beginning",
}

__all__ = [
    "ARITHMETIC_ERROR",
    "ARRAYS",
    "DEFAULT_PRECISION",
    "FORMAT_VERSION",
    "READ_VERSIONS",
    "LEASE_S",
    "METRICS",
    "PRECISIONS",
    "STACKS",
    "THUMBNAIL_SIDE",
    "VECTOR_PRECISIONS",
    "ArrayName",
    "AttentionSource",
    "Damage",
    "Diagnosis",
    "Example",
    "HeadArray",
    "InputError",
    "Json",
    "Label",
    "Lengths",
    "Mask",
    "Metrics",
    "MissingArray",
    "NotFinite",
    "OutOfRange",
    "Page",
    "Place",
    "PlanMismatch",
    "Position",
    "Precision",
    "QKVaultError",
    "Receipt",
    "Recipe",
    "Record",
    "RelativeBias",
    "ResourceError",
    "Scan",
    "ScanBatch",
    "ScanItem",
    "Selection",
    "Sinks",
    "Stack",
    "StackName",
    "StackView",
    "Status",
    "Table",
    "Target",
    "TokenRoles",
    "Unit",
    "UnitBuffer",
    "UnitTaken",
    "UnknownExample",
    "WITHIN_ONE_SEQUENCE",
    "Vault",
    "VaultError",
    "VaultSpec",
    "VaultState",
    "VaultWriter",
    "VectorPrecision",
    "VerifyReport",
    "__version__",
    "append",
    "bias_by_distance",
    "bound_derived",
    "bound_weights",
    "choose_vectors",
    "copy",
    "create",
    "decode_attention",
    "decode_vectors",
    "derive_attention",
    "derive_scores",
    "diagnose",
    "encode_attention",
    "encode_vectors",
    "export",
    "forward_cost",
    "head_metrics",
    "head_terms",
    "leave_out",
    "locate",
    "make_thumbnail",
    "one_line",
    "open",
    "resume",
    "token_axes",
    "status",
    "token_roles",
    "vault_state",
    "vector_precision",
    "verify",
    "visible_range",
]


def open(path: Place | str, *, partial: bool = False) -> Vault:
    """Open a vault for reading.

    Args:
        path: the vault's folder, its URL (``s3://bucket/name``), or an export of it in one HDF5
            file.
        partial: accept an unfinished vault; what is not finished raises when touched.

    Raises:
        VaultError: missing, not a vault, damaged, of another format, or unfinished.
    """
    from .vault import Vault

    return Vault(path, partial=partial)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
