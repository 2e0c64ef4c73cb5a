"""From captured tensors to the codes a vault stores: cropped, quantised, with thumbnails.

All arithmetic is done where the tensors are, by torch; what reaches the unit's buffers equals
:func:`qkvault.encode_attention` and :func:`qkvault.make_thumbnail` bit for bit. Examples of equal
length are handled together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from qkvault import (
    THUMBNAIL_SIDE,
    ArrayName,
    InputError,
    Precision,
    decode_vectors,
    make_thumbnail,
    token_roles,
)
from qkvault_extractor.codes import to_codes
from qkvault_extractor.metrics import HeadMetrics
from qkvault_extractor.summaries import LayerSummary, Run
from qkvault_extractor.thumbnails import is_poolable, pool
from qkvault_extractor.vectors import stored_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qkvault import Mask, Record, TokenRoles
    from qkvault_extractor.capture import AttentionCall
    from qkvault_extractor.probe import Probe

ROW_SUM_TOLERANCE: Final = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-1}
"""How far from 1 an attention row may sum, by the precision the model runs in (rounding only)."""

CACHED_WEIGHTS: Final = 1 << 17
"""Attention weights packed at once, 512 kB as float32: later passes find them in a cache."""

METRIC_NUMBERS: Final = 1 << 24
"""Numbers taken of attention rows that wait to be averaged to metrics, at most."""

LARGEST_HALF: Final = 65504.0
"""Largest float16."""

Axes = tuple[str, str]
"""The sequences, ``source`` or ``target``, that query tokens and key tokens are of."""

ONE_SEQUENCE: Final[Axes] = ("source", "source")

_CODE_DTYPES: Final = {"uint8": torch.uint8, "uint16": torch.uint16}


@dataclass(frozen=True)
class Batch:
    """Examples that share a forward pass, by ascending length.

    Attributes:
        rows: their rows in the unit's buffers, int64 [B].
        lengths: their tokens, int64 [B].
        ids: what they are called in error messages.
        roles: of each one's tokens; needed only where head metrics are kept.
        target_lengths, target_roles: of their targets, where they have any.
    """

    rows: NDArray[np.int64]
    lengths: NDArray[np.int64]
    ids: Sequence[str]
    roles: Sequence[TokenRoles] = ()
    target_lengths: NDArray[np.int64] | None = None
    target_roles: Sequence[TokenRoles] = ()

    @classmethod
    def of_records(
        cls, rows: NDArray[np.int64], records: Sequence[Record], *, measured: bool
    ) -> Batch:
        """The batch of some records, with their roles where heads are ``measured``."""
        targets = [record.target for record in records if record.target is not None]
        return cls(
            rows,
            np.array([len(record.tokens) for record in records], np.int64),
            [record.id for record in records],
            [token_roles(record) for record in records] if measured else (),
            np.array([len(target.tokens) for target in targets], np.int64) if targets else None,
            [token_roles(target) for target in targets] if measured else (),
        )

    def side(self, sequence: str) -> NDArray[np.int64]:
        """Tokens of each example's ``source`` or ``target``."""
        if sequence == "source":
            return self.lengths
        assert self.target_lengths is not None, "the examples have no targets"
        return self.target_lengths

    def runs(self, heads: int, axes: Axes = ONE_SEQUENCE) -> list[Run]:
        """Ranges that share their lengths and fit into a cache; as :meth:`equal_lengths`.

        Args:
            heads: maps per example that are packed at once.
            axes: sequences of query and key tokens.
        """
        runs = []
        for first, last, queries, keys in self.equal_lengths(axes):
            step = max(1, CACHED_WEIGHTS // (heads * queries * keys))
            runs += [(i, min(i + step, last), queries, keys) for i in range(first, last, step)]
        return runs

    def equal_lengths(self, axes: Axes = ONE_SEQUENCE) -> list[Run]:
        """Half-open ranges that share their lengths: ``(start, stop, queries, keys)``."""
        sides = np.stack([self.side(sequence) for sequence in axes], 1)
        changes = np.flatnonzero(np.diff(sides, axis=0).any(1)) + 1
        edges = [0, *changes.tolist(), len(sides)]
        return [
            (first, last, *sides[first].tolist())
            for first, last in zip(edges, edges[1:], strict=False)
            if first < last
        ]


class Packer:
    """Packs the attention calls of forward passes into the buffers of one unit.

    For each batch: :meth:`start`, then :meth:`take` for every call, then :meth:`finish`. Where
    attention is computed in tiles, :meth:`take_tile` comes for each of them, before the call.

    Args:
        probe: the model's stacks, and where each call belongs.
        arrays: which arrays to keep.
        precision: how attention is kept.
        buffers: the unit's arrays by name, as a vault's writer hands them out; written in place.
            Queries, keys and values are kept as the type of theirs says.
    """

    def __init__(
        self,
        probe: Probe,
        arrays: Sequence[ArrayName],
        precision: Precision,
        buffers: Mapping[str, NDArray[Any]],
    ) -> None:
        self._sites = probe.sites
        depth = {stack.name: {n: i for i, n in enumerate(stack.layers)} for stack in probe.stacks}
        self._depths = [depth[site.stack][site.layer] for site in probe.sites]
        self._heads = max(stack.heads for stack in probe.stacks)
        self._sums_to_one = probe.sums_to_one
        self._precision = precision
        self._buffers = buffers
        self._keeps_attention = "attention" in arrays
        self._summary: LayerSummary | None = None
        self._axes = probe.axes
        masks = {stack.name: [r.mask for r in stack.recipe] for stack in probe.stacks}
        self._masks = [masks[s.stack][d] for s, d in zip(probe.sites, self._depths, strict=True)]
        self._vectors = [name for name in ("query", "key", "value") if name in arrays]
        self._scratch = torch.empty(0)
        self._tolerance = 0.0
        self._reset(Batch(np.empty(0, np.int64), np.empty(0, np.int64), ()))

    def start(self, batch: Batch) -> None:
        """Begin a batch."""
        self._reset(batch)

    def _reset(self, batch: Batch) -> None:
        self._batch = batch
        self._runs: dict[Axes, list[Run]] = {}
        self._taken = 0
        self._meters: dict[Axes, HeadMetrics] = {}
        self._summary = None
        self._metric_rows: dict[int, Tensor] = {}  # of each call, until they are averaged
        self._row_errors: list[Tensor] = []  # one (example,) per call
        self._norms: list[Tensor] = []  # one (example,) per call and kept vector array

    def take(self, call: AttentionCall) -> None:
        """Pack one attention call.

        Raises:
            InputError: the model made another call here than when it was probed.
        """
        site = self._sites[call.index] if call.index < len(self._sites) else None
        if site is None or site.module != call.name:
            raise InputError(
                f"the model called attention in {call.name} where its first forward pass did not; "
                "a model whose layers depend on its input cannot be captured"
            )
        depth, axes = self._depths[call.index], self._axes[call.index]
        most = [int(self._batch.side(axis).max()) for axis in axes]
        if call.query.shape[2] < most[0] or call.key.shape[2] < most[1]:
            raise InputError(
                f"{call.name} attends to all tokens of some texts and not of others; "
                "a model whose layers depend on its input cannot be captured"
            )
        self._taken += 1
        if axes not in self._runs:
            self._runs[axes] = self._batch.runs(self._heads, axes)
        runs = self._runs[axes]
        with np.errstate(invalid="ignore"):  # NaN is told of by finish(), with the layer's number
            if call.attention is not None:
                self._pack_maps(site.stack, depth, call.attention, runs)
            for name in self._vectors:
                self._pack_vectors(f"{site.stack}/{name}", depth, getattr(call, name), runs)
            if f"{site.stack}/metrics" in self._buffers:
                self._take_metrics(call)
        if self._summary is not None:
            for start, codes in self._summary.thumbnails():
                thumbnails = codes.cpu().numpy()
                height, width = codes.shape[2:]
                self._write(f"{site.stack}/thumbnail", depth, start, thumbnails, height, width)
            self._summary = None

    def take_tile(self, index: int, first: int, start: int, weights: Tensor) -> None:
        """Take a tile of the attention of the call that comes next.

        Args:
            index: the call's.
            first: first example of the tile.
            start: its first query token.
            weights: float32 ``(example, head, query_token, key_token)``.
        """
        if self._summary is None:
            axes = self._axes[index]
            meter = self._meter_on(weights.device, axes) if self._batch.roles else None
            self._summary = LayerSummary(self._batch.equal_lengths(axes), meter)
        self._summary.add(first, start, weights)

    def finish(self, logits: Tensor | None) -> None:
        """End a batch: store logits, check that all calls were made and all values are sound.

        Args:
            logits: ``(example, output)``, or None where the model has no classification head.

        Raises:
            InputError: calls are missing, a value is not finite or too large, or attention does not
                sum to one; names example and layer.
        """
        if self._taken != len(self._sites):
            raise InputError(
                f"{self._taken} of {len(self._sites)} attention layers were captured; "
                "a model whose layers depend on its input cannot be captured"
            )
        self._store_metrics()
        self._check_sums()
        self._check_norms()
        if logits is not None:
            if not bool(torch.isfinite(logits).all()):
                bad = int((~torch.isfinite(logits)).any(-1).nonzero()[0])
                raise InputError(f"example {self._batch.ids[bad]}: its logits are not finite")
            self._buffers["logits"][self._batch.rows] = logits.float().cpu().numpy()

    def _pack_maps(self, stack: str, depth: int, attention: Tensor, runs: list[Run]) -> None:
        """Check a layer's maps and store them, and their thumbnails, where they are kept."""
        self._tolerance = ROW_SUM_TOLERANCE[attention.dtype]
        errors = []
        for start, stop, queries, keys in runs:
            part = attention[start:stop, :, :queries, :keys]
            errors.append(self._row_error(part))
            if self._keeps_attention:
                self._pack_attention(stack, depth, start, part)
        self._row_errors.append(torch.cat(errors))

    def _pack_attention(self, stack: str, depth: int, start: int, attention: Tensor) -> None:
        """Store maps of one shape, ``(example, head, query_token, key_token)``, and thumbnails."""
        queries, keys = attention.shape[2:]
        if attention.dtype != torch.float32:
            attention = attention.float().clamp_(max=1.0)  # half precision may round above 1
        codes = self._encode(attention, self._precision)
        self._write(f"{stack}/attention", depth, start, codes, queries, keys)
        if max(queries, keys) > THUMBNAIL_SIDE:
            codes = self._encode_pooled(attention)
        elif self._precision != "uint8":
            codes = self._encode(attention, "uint8")
        bins = (min(side, THUMBNAIL_SIDE) for side in (queries, keys))
        self._write(f"{stack}/thumbnail", depth, start, codes, *bins)

    def _encode(self, weights: Tensor, precision: Precision) -> NDArray[Any]:
        """Give codes on the host; whole numbers may still be float32, to be cast when written."""
        if precision == "float32":
            return weights.cpu().numpy()
        if precision == "float16":
            return weights.to(torch.float16).cpu().numpy()
        scaled = to_codes(weights, precision, self._scratch_like(weights))
        if scaled.device.type != "cpu":
            return scaled.to(_CODE_DTYPES[precision]).cpu().numpy()
        return scaled.numpy()

    def _encode_pooled(self, attention: Tensor) -> NDArray[Any]:
        queries, keys = attention.shape[2:]
        if queries != keys or not is_poolable(keys, attention.device):
            return make_thumbnail(attention.cpu().numpy())
        return self._encode(pool(attention), "uint8")

    def _pack_vectors(self, name: str, depth: int, vectors: Tensor, runs: list[Run]) -> None:
        """Store queries, keys or values, ``(example, head, token, dim)``."""
        self._norms.append(torch.linalg.vector_norm(vectors, dim=(1, 2, 3), dtype=torch.float32))
        host = stored_vectors(vectors, self._buffers[name].dtype)
        for start, stop, queries, keys in runs:
            tokens = queries if name.endswith("/query") else keys
            self._write(name, depth, start, host[start:stop, :, :tokens], tokens, host.shape[-1])

    def _take_metrics(self, call: AttentionCall) -> None:
        """Take what the metrics of a layer's heads need; many layers are then averaged at once."""
        if self._summary is not None:
            rows = self._summary.metric_rows()
        else:
            meter = self._meter_on(call.weights.device, self._axes[call.index])
            rows = meter.take(call.weights)
        self._metric_rows[call.index] = rows
        if len(self._metric_rows) * rows.numel() > METRIC_NUMBERS:
            self._store_metrics()

    def _store_metrics(self) -> None:
        """Store the metrics of the layers taken so far."""
        alike: dict[tuple[Mask, int, Axes], list[int]] = {}
        for index, rows in self._metric_rows.items():
            kind = (self._masks[index], rows.shape[2], self._axes[index])
            alike.setdefault(kind, []).append(index)
        for (mask, _, axes), calls in alike.items():
            rows = torch.cat([self._metric_rows[index] for index in calls], 2)
            values = (
                self._meters[axes].average(rows, mask).cpu().numpy()
            )  # (example, layer * head, metric)
            for index, layer in zip(calls, np.split(values, len(calls), axis=1), strict=True):
                name = f"{self._sites[index].stack}/metrics"
                self._buffers[name][self._batch.rows, self._depths[index]] = layer
        self._metric_rows.clear()

    def _meter_on(self, device: torch.device, axes: Axes) -> HeadMetrics:
        if axes not in self._meters:
            roles = {"source": self._batch.roles, "target": self._batch.target_roles}
            query, key = ((self._batch.side(s).tolist(), roles[s]) for s in axes)
            keys = key if axes[0] != axes[1] else None
            self._meters[axes] = HeadMetrics(*query, device, keys)
        return self._meters[axes]

    def _write(
        self, name: str, depth: int, start: int, values: NDArray[Any], height: int, width: int
    ) -> None:
        target = self._buffers[name]
        for row, value in zip(self._batch.rows[start : start + len(values)], values, strict=True):
            target[row, depth, :, :height, :width] = value

    def _scratch_like(self, x: Tensor) -> Tensor:
        """Memory of the shape of ``x`` that the next call overwrites: fresh pages cost time."""
        if self._scratch.numel() < x.numel() or self._scratch.device != x.device:
            self._scratch = torch.empty(x.numel(), device=x.device)
        return self._scratch[: x.numel()].view(x.shape)

    def _row_error(self, attention: Tensor) -> Tensor:
        """Farthest that a row of each example is from the sum that it should have."""
        sums = attention.sum(-1, dtype=torch.float32)  # (example, head, query_token)
        errors = sums.sub_(1.0)
        errors = errors.abs_() if self._sums_to_one else errors.clamp_(min=0.0)
        return errors.flatten(1).amax(1)

    def _check_sums(self) -> None:
        if not self._row_errors:
            return
        errors = torch.stack(self._row_errors)  # (call, example)
        sound = errors <= self._tolerance  # false for NaN too
        if bool(sound.all()):
            return
        call, example = (int(i) for i in (~sound).nonzero()[0])
        error = float(errors[call, example])
        what = "is not finite" if error != error else f"sums to 1 only within {error:.1e}"
        raise InputError(
            f"example {self._batch.ids[example]}: the attention of layer {self._sites[call].layer} "
            f"{what}; the model's weights overflow on it"
        )

    def _check_norms(self) -> None:
        # A norm bounds every value of the example; only where it is too large are they looked at.
        if not self._norms:
            return
        sound = torch.stack(self._norms) <= LARGEST_HALF  # (call * vector array, example)
        for which, example in (~sound).nonzero().tolist():
            call, vector = divmod(which, len(self._vectors))
            name = self._vectors[vector]
            site = self._sites[call]
            kept = self._buffers[f"{site.stack}/{name}"]
            axis = self._axes[call][name != "query"]
            tokens = int(self._batch.side(axis)[example])
            codes = kept[self._batch.rows[example], self._depths[call], :, :tokens]
            values = decode_vectors(codes)
            if not np.isfinite(values).all():
                raise InputError(
                    f"example {self._batch.ids[example]}: a {name} of layer {site.layer} is not "
                    f"finite as {codes.dtype}; use --precision float32, or another model"
                )
