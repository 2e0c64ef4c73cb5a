"""Which tokens the axes of a stack run along, and how far an example reaches in them.

Most vaults know one sequence of tokens per example. An encoder-decoder's know two: what the encoder
reads, the source, and what the decoder reads, the target.

=======  =============  ===========
stack    query tokens   key tokens
=======  =============  ===========
encoder  source         source
decoder  target         target
cross    target         source
=======  =============  ===========

Without a target, every axis runs along the only sequence there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from .spec import StackName

Sequence = Literal["source", "target"]

MAPS: Final = ("attention", "thumbnail", "scores")
"""Arrays whose last two axes are query tokens and key tokens."""

_AXES: Final[dict[StackName, tuple[Sequence, Sequence]]] = {
    "encoder": ("source", "source"),
    "decoder": ("target", "target"),
    "cross": ("target", "source"),
}


class HasTarget(Protocol):
    """What tells whether there are two sequences: a :class:`qkvault.VaultSpec`, for one."""

    @property
    def target(self) -> bool: ...


class Lengths(NamedTuple):
    """Tokens of an example, or padded tokens of a bucket.

    Attributes:
        source: of what the encoder reads, or of the only sequence.
        target: of what an encoder-decoder's decoder reads; 0 where there is none.
    """

    source: int
    target: int = 0

    def sides(self, spec: HasTarget, stack: StackName) -> tuple[int, int]:
        """Query tokens and key tokens of a stack."""
        query, key = token_axes(spec, stack)
        return getattr(self, query), getattr(self, key)


def token_axes(spec: HasTarget, stack: StackName) -> tuple[Sequence, Sequence]:
    """The sequences that a stack's query tokens and key tokens are of."""
    return _AXES[stack] if spec.target else ("source", "source")


def own_cells(name: str, queries: int, keys: int) -> tuple[slice, slice]:
    """The part of an array's last two axes that an example of so many tokens fills."""
    if name in MAPS:
        return slice(queries), slice(keys)
    return slice(keys if name in ("key", "value") else queries), slice(None)


def bucket_length(tokens: int) -> int:
    """Padded length of an example: steps of 8 to 128, of 16 to 512, then coarser by powers of two.

    Raises:
        ValueError: fewer than one token.
    """
    if tokens < 1:
        raise ValueError("an example has at least one token")
    below = 1 << max((tokens - 1).bit_length() - 1, 0)
    step = 8 if tokens <= 128 else max(16, below // 16)
    return -(-tokens // step) * step
