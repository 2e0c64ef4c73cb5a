"""From captured tensors to the codes a vault stores: cropped, quantised, with thumbnails.

All arithmetic is done where the tensors are, by torch; what reaches the unit's buffers equals
:func:`qkvault.encode_attention` and :func:`qkvault.make_thumbnail` bit for bit. Examples of equal
length are handled together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from qkvault import (
    THUMBNAIL_SIDE,
    ArrayName,
    InputError,
    Precision,
    make_thumbnail,
)
from qkvault_extractor.batch import Axes, Batch
from qkvault_extractor.codes import to_codes
from qkvault_extractor.metrics import HeadMetrics
from qkvault_extractor.outbox import Outbox
from qkvault_extractor.summaries import LayerSummary, Run
from qkvault_extractor.thumbnails import is_poolable, pool
from qkvault_extractor.values import (
    ROW_SUM_TOLERANCE,
    find_large_vectors,
    find_wrong_logits,
    find_wrong_sums,
)
from qkvault_extractor.vectors import fit_vectors, stored_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qkvault import Mask
    from qkvault_extractor.capture import AttentionCall
    from qkvault_extractor.probe import Probe
    from qkvault_extractor.unfit import Flaw
    from qkvault_extractor.values import Found

METRIC_NUMBERS: Final = 1 << 24
"""Numbers taken of attention rows that wait to be averaged to metrics, at most."""

_CODE_DTYPES: Final = {"uint8": torch.uint8, "uint16": torch.uint16}


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
        outbox: delivers to them; at once where None.

    Attributes:
        flaws: of examples whose values cannot be kept, by their row; the first one that was met.
            What their rows hold is of no use.
    """

    def __init__(
        self,
        probe: Probe,
        arrays: Sequence[ArrayName],
        precision: Precision,
        buffers: Mapping[str, NDArray[Any]],
        outbox: Outbox | None = None,
    ) -> None:
        self.flaws: dict[int, Flaw] = {}
        self._outbox = outbox or Outbox()
        self._sites = probe.sites
        depth = {stack.name: {n: i for i, n in enumerate(stack.layers)} for stack in probe.stacks}
        self._depths = [depth[site.stack][site.layer] for site in probe.sites]
        self._heads = max(stack.heads for stack in probe.stacks)
        self._whole: dict[str, bool] = {s.name: s.sums_to_one for s in probe.stacks}
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
        self._reset(Batch(np.empty(0, np.int64), np.empty(0, np.int64)))

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
        with np.errstate(invalid="ignore"):  # NaN is noted by finish(), with the layer
            if call.attention is not None:
                self._pack_maps(site.stack, depth, call.attention, runs)
            for name in self._vectors:
                self._pack_vectors(f"{site.stack}/{name}", depth, getattr(call, name), runs)
            if f"{site.stack}/metrics" in self._buffers:
                self._take_metrics(call)
        if self._summary is not None:
            for start, codes in self._summary.thumbnails():
                self._send(f"{site.stack}/thumbnail", depth, start, codes)
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
        """End a batch: store logits, check that all calls were made, look whether values are sound.

        Args:
            logits: ``(example, output)``, or None where the model has no classification head.

        Raises:
            InputError: calls are missing.
        """
        if self._taken != len(self._sites):
            raise InputError(
                f"{self._taken} of {len(self._sites)} attention layers were captured; "
                "a model whose layers depend on its input cannot be captured"
            )
        self._store_metrics()
        self._send_checks()
        if logits is not None:
            batch, buffer = self._batch, self._buffers["logits"]

            def keep(values: NDArray[Any]) -> None:
                self._note(batch, find_wrong_logits(values))
                buffer[batch.rows] = values

            self._outbox.send(logits.float(), keep)

    def _send_checks(self) -> None:
        """Have sums and norms checked once what they are of has been delivered."""
        batch, sites, tolerance = self._batch, self._sites, self._tolerance
        if self._row_errors:
            self._outbox.send(
                torch.stack(self._row_errors),
                lambda errors: self._note(batch, find_wrong_sums(errors, tolerance, sites)),
                owned=True,
            )
        if self._norms:
            places = list(zip(sites, self._depths, self._axes, strict=True))

            def look(norms: NDArray[Any]) -> None:
                found = find_large_vectors(norms, self._vectors, batch, places, self._buffers)
                self._note(batch, found)

            self._outbox.send(torch.stack(self._norms), look, owned=True)

    def _note(self, batch: Batch, found: Found) -> None:
        for place, flaw in found:
            self.flaws.setdefault(int(batch.rows[place]), flaw)

    def _pack_maps(self, stack: str, depth: int, attention: Tensor, runs: list[Run]) -> None:
        """Check a layer's maps and store them, and their thumbnails, where they are kept."""
        self._tolerance = ROW_SUM_TOLERANCE[attention.dtype]
        errors = []
        for start, stop, queries, keys in runs:
            part = attention[start:stop, :, :queries, :keys]
            errors.append(_row_error(part, self._whole[stack]))
            if self._keeps_attention:
                self._pack_attention(stack, depth, start, part)
        self._row_errors.append(torch.cat(errors))

    def _pack_attention(self, stack: str, depth: int, start: int, attention: Tensor) -> None:
        """Store maps of one shape, ``(example, head, query_token, key_token)``, and thumbnails."""
        if attention.dtype != torch.float32:
            attention = attention.float().clamp_(max=1.0)  # half precision may round above 1
        codes = self._encode(attention, self._precision)
        self._send(f"{stack}/attention", depth, start, codes)
        if f"{stack}/thumbnail" in self._buffers:
            self._send(f"{stack}/thumbnail", depth, start, self._encode_thumbnail(attention))

    def _encode(self, weights: Tensor, precision: Precision) -> Tensor:
        """Give codes; whole numbers may still be float32, to be cast when they are delivered."""
        if precision in ("float32", "float16"):
            return weights.to(getattr(torch, precision), copy=self._outbox.is_late)
        scaled = to_codes(weights, precision, self._scratch_like(weights))  # type: ignore[arg-type]
        return scaled.to(_CODE_DTYPES[precision]) if self._outbox.is_late else scaled

    def _encode_thumbnail(self, attention: Tensor) -> Tensor:
        queries, keys = attention.shape[2:]
        if max(queries, keys) <= THUMBNAIL_SIDE:
            return self._encode(attention, "uint8")
        if queries != keys or not is_poolable(keys, attention.device):
            return torch.from_numpy(make_thumbnail(attention.cpu().numpy())).to(attention.device)
        return self._encode(pool(attention), "uint8")

    def _pack_vectors(self, name: str, depth: int, vectors: Tensor, runs: list[Run]) -> None:
        """Store queries, keys or values, ``(example, head, token, dim)``."""
        self._norms.append(torch.linalg.vector_norm(vectors, dim=(1, 2, 3), dtype=torch.float32))
        vectors = fit_vectors(vectors, *self._room(name))
        codes = stored_vectors(vectors, self._buffers[name].dtype)
        cuts = [(start, stop, q if name.endswith("/query") else k) for start, stop, q, k in runs]
        target, batch_rows = self._buffers[name], self._batch.rows

        def deliver(values: NDArray[Any]) -> None:
            for start, stop, tokens in cuts:
                rows = batch_rows[start:stop]
                _scatter(target, rows, depth, values[start:stop, :, :tokens])

        self._outbox.send(codes, deliver, owned=codes is not vectors)

    def _room(self, name: str) -> tuple[int, int]:
        """Heads and width of an array's vectors, those of all its layers."""
        target = self._buffers[name]
        return target.shape[2], target.shape[4] - (target.dtype.name == "int16")

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
            values = self._meters[axes].average(rows, mask)  # (example, layer * head, metric)
            self._outbox.send(values, partial(self._keep_metrics, self._batch, calls), owned=True)
        self._metric_rows.clear()

    def _keep_metrics(self, batch: Batch, calls: list[int], values: NDArray[Any]) -> None:
        for index, layer in zip(calls, np.split(values, len(calls), axis=1), strict=True):
            name = f"{self._sites[index].stack}/metrics"
            self._buffers[name][batch.rows, self._depths[index]] = layer

    def _meter_on(self, device: torch.device, axes: Axes) -> HeadMetrics:
        if axes not in self._meters:
            roles = {"source": self._batch.roles, "target": self._batch.target_roles}
            query, key = ((self._batch.side(s).tolist(), roles[s]) for s in axes)
            keys = key if axes[0] != axes[1] else None
            self._meters[axes] = HeadMetrics(*query, device, keys)
        return self._meters[axes]

    def _send(self, name: str, depth: int, start: int, codes: Tensor) -> None:
        """Have a layer's codes of some examples put into their rows; ``codes`` are our own."""
        target, rows = self._buffers[name], self._batch.rows[start : start + len(codes)]
        self._outbox.send(codes, lambda values: _scatter(target, rows, depth, values), owned=True)

    def _scratch_like(self, x: Tensor) -> Tensor:
        """Memory of the shape of ``x`` that the next call overwrites: fresh pages cost time."""
        if self._scratch.numel() < x.numel() or self._scratch.device != x.device:
            self._scratch = torch.empty(x.numel(), device=x.device)
        return self._scratch[: x.numel()].view(x.shape)


def _row_error(attention: Tensor, whole: bool) -> Tensor:
    """Farthest that a row of each example is from the sum that it should have.

    Args:
        attention: ``(example, head, query_token, key_token)``.
        whole: whether all of a row's weight goes to tokens.
    """
    errors = attention.sum(-1, dtype=torch.float32).sub_(1.0)  # (example, head, query_token)
    errors = errors.abs_() if whole else errors.clamp_(min=0.0)
    return errors.flatten(1).amax(1)


def _scatter(
    target: NDArray[Any], rows: NDArray[np.int64], depth: int, values: NDArray[Any]
) -> None:
    """Put values ``(example, head, token, width)`` into the rows of a unit's array."""
    height, width = values.shape[2:]
    for row, value in zip(rows, values, strict=True):
        target[row, depth, :, :height, :width] = value
