"""From options to a finished vault: read, check, tokenize, plan or go on, run, finish.

Whatever is wrong with the data is told before any model file is opened, whatever is wrong with the
model before anything is written.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import qkvault
from qkvault import AttentionSource, InputError, Json, ResourceError, VaultSpec, VaultState
from qkvault_extractor.batches import default_budget
from qkvault_extractor.identity import identify_model, tokenizer_hash
from qkvault_extractor.inputs import load_inputs
from qkvault_extractor.limits import model_limit_of
from qkvault_extractor.options import ExtractOptions, ExtractReport, Progress
from qkvault_extractor.ready import batch_budget, load_and_probe, refuse_other_attention
from qkvault_extractor.tokens import encode_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkvault import Record, VaultWriter
    from qkvault_extractor.model import LoadedModel
    from qkvault_extractor.probe import Probe
    from qkvault_extractor.rows import Inputs


def extract(
    options: ExtractOptions, progress: Callable[[Progress], None] | None = None
) -> ExtractReport:
    """Extract a data set into a vault, or go on with one that was begun.

    Args:
        options: what to extract.
        progress: called now and then, from this thread.

    Returns:
        What came of it.

    Raises:
        InputError: the data, the model or an option cannot be used; nothing has been written.
        PlanMismatch: the folder holds a vault made from something else; names what differs.
        VaultError: the folder holds a damaged vault.
        ResourceError: memory, disk or device ran out, or an extra is not installed; run again to
            go on.
    """
    start = time.perf_counter()
    state = _check_out(options.out)
    job = _Job(options, _load_inputs(options))
    if state in ("absent", "empty"):
        job.plan()
    else:
        job.go_on()
    written = 0 if state == "complete" else job.run(progress)
    return job.report(state == "complete", written, time.perf_counter() - start)


def _check_out(out: Path) -> VaultState:
    state = qkvault.vault_state(out)
    if state == "other":
        kind = "a folder that is not a vault" if out.is_dir() else "a file"
        raise InputError(f"--out {out} is {kind}; give a new folder, or a vault to go on with")
    parent = out.absolute().parent
    if state == "absent" and not parent.is_dir():
        raise InputError(f"--out {out} cannot be made: there is no folder {parent}")
    return state


def _load_inputs(options: ExtractOptions) -> Inputs:
    return load_inputs(
        data=options.data,
        format=options.format,
        text_columns=options.text_columns,
        label_column=options.label_column,
        id_column=options.id_column,
        split=options.split,
        config=options.config,
        limit=options.limit,
        on_bad=options.on_bad,
    )


_CAPTURES = {
    "store": "transformers attention interface, the model's own eager attention",
    "derive": "transformers attention interface, attention in tiles by the layers' recipes",
}


class _Job:
    """One extraction whose data has been read; the model's weights are loaded when first needed."""

    def __init__(self, options: ExtractOptions, inputs: Inputs) -> None:
        from qkvault_extractor.model import load_config, load_tokenizer

        self._options = options
        self._inputs = inputs
        self._config = load_config(options.model)
        self._tokenizer = load_tokenizer(options.model)
        self._limit = model_limit_of(self._config, self._tokenizer)
        self._attention: AttentionSource = "derived" if options.attention == "derive" else "stored"
        self._loaded: LoadedModel | None = None
        self._probe: Probe | None = None
        self._writer: VaultWriter | None = None
        self._identity: dict[str, Json] = {
            "data": inputs.text_hash,
            "model": identify_model(options.model, self._config),
            "tokenizer": tokenizer_hash(self._tokenizer),
            "arrays": list(options.arrays),
            "attention": options.attention,
            "precision": options.precision,
            "max_length": options.max_length or self._limit,
            "truncate": options.truncate,
        }

    def plan(self) -> None:
        """Tokenize, load and check the model, then freeze the plan; nothing is written before."""
        options = self._options
        records, rejects = encode_rows(
            self._inputs.rows,
            self._tokenizer,
            max_length=options.max_length,
            truncate=options.truncate,
            model_limit=self._limit,
            vocab_size=getattr(self._config.get_text_config(), "vocab_size", None),
            on_bad=options.on_bad,
        )
        loaded, probe = self._load(records)
        spec = VaultSpec(
            stacks=probe.stacks,
            arrays=options.arrays,
            precision=options.precision,
            logits=loaded.logits,
            label_names=loaded.label_names,
            identity=self._identity,
            provenance=self._tell_provenance(loaded, probe),
            attention=self._attention,
            derived_error=probe.derived_error,
            metrics=qkvault.METRICS if self._sees_attention() else (),
        )
        refused = sorted([*self._inputs.rejects, *rejects], key=lambda reject: reject.number)
        self._writer = qkvault.create(
            options.out, spec, records, rejects=[reject.to_json() for reject in refused]
        )

    def _sees_attention(self) -> bool:
        return "attention" in self._options.arrays or self._attention == "derived"

    def go_on(self) -> None:
        """Open the vault that is there, if it is of the same identity."""
        self._writer = qkvault.resume(self._options.out, self._identity)

    def run(self, progress: Callable[[Progress], None] | None) -> int:
        """Run what is pending and finish the vault; returns the bytes written."""
        from qkvault_extractor.run import run_units

        writer = self._open_writer()
        if self._loaded is None or self._probe is None:
            self._loaded, self._probe = self._load(writer.records(writer.units[-1]))
            refuse_other_attention(writer.path, writer.spec, self._loaded, self._probe)
        with writer:
            written = run_units(writer, self._loaded, self._probe, self._budget(), progress)
            if left := len(writer.pending()):
                raise ResourceError(
                    f"{writer.path}: {left} units are being written by another process; "
                    "run again when it is done"
                )
            writer.finish()
        return written

    def report(self, already_complete: bool, written: int, seconds: float) -> ExtractReport:
        """Sum up a finished vault."""
        with qkvault.open(self._options.out) as vault:
            rejected = vault.info()["rejects"]
            assert isinstance(rejected, int)
            return ExtractReport(already_complete, len(vault), rejected, written, seconds)

    def _load(self, records: Sequence[Record]) -> tuple[LoadedModel, Probe]:
        options = self._options
        self._loaded, self._probe = load_and_probe(
            options.model,
            self._config,
            self._tokenizer,
            options.device,
            records,
            self._attention,
            options.precision,
        )
        return self._loaded, self._probe

    def _open_writer(self) -> VaultWriter:
        assert self._writer is not None, "plan() or go_on() comes first"
        return self._writer

    def _budget(self) -> int:
        assert self._loaded is not None
        begun = self._open_writer().spec.provenance
        return batch_budget(begun, self._loaded.device.type, self._options.batch_tokens)

    def _tell_provenance(self, loaded: LoadedModel, probe: Probe) -> dict[str, Json]:
        import torch
        import transformers

        inputs = self._inputs
        return {
            "name": loaded.name,
            "location": self._options.model,
            "type": str(self._config.model_type),
            "class": type(loaded.model).__name__,
            "parameters": sum(weights.numel() for weights in loaded.model.parameters()),
            "dtype": str(loaded.model.dtype).removeprefix("torch."),
            "device": loaded.device.type,
            "batch_tokens": self._options.batch_tokens or default_budget(loaded.device.type),
            "capture": _CAPTURES[self._options.attention],
            "capture_difference": probe.difference,
            "sources": list(inputs.sources),
            "formats": list(inputs.formats),
            "text_columns": list(inputs.text_columns),
            "label_column": inputs.label_column,
            "id_column": inputs.id_column,
            "data_label_names": list(inputs.label_names),
            "dropped_columns": list(inputs.dropped),
            "qkvault": qkvault.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
