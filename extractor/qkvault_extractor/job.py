"""One extraction, whatever it is made of: plan or go on, run, finish.

What the examples are (texts, features) is the source's business; that nothing is written before
everything has been checked, and that a run goes on only with what it was begun with, is settled
here.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import qkvault
from qkvault import AttentionSource, InputError, Json, NotFinite, VaultSpec, VaultState
from qkvault_extractor.batches import default_budget
from qkvault_extractor.jobs import Job
from qkvault_extractor.options import ExtractReport, OnBad, PlanReport, Progress, RunOptions
from qkvault_extractor.ready import longest_records, probe_for, refuse_other_attention
from qkvault_extractor.running import Crew, Elsewhere, Here, run_crew
from qkvault_extractor.spool import RecordSpool, longest
from qkvault_extractor.stopwatch import Stopwatch
from qkvault_extractor.unfit import OVERFLOW, Flaw, Unfit
from qkvault_extractor.ways import DERIVING, WAYS

if TYPE_CHECKING:
    from qkvault import Place, Record, VaultWriter
    from qkvault_extractor.model import LoadedModel
    from qkvault_extractor.probe import Probe
    from qkvault_extractor.rows import Reject


TRIED: Final = 8
"""Longest texts that a model may give nothing finite for, before it is taken to be broken."""


class Source(Protocol):
    """What is extracted: a data set, read and checked, and the model that is to run over it."""

    @property
    def on_bad(self) -> OnBad:
        """Whether a row that the model cannot be run on stops the run, or is left out."""

    def refuse(self, record_id: str, reason: str) -> Reject:
        """The row of a record as one that cannot be used."""

    def identify(self) -> dict[str, Json]:
        """What must be equal for a run to go on with a vault, the options of the run apart."""

    def make_records(self) -> tuple[Sequence[Record], list[Reject]]:
        """Make the records, in the data's order, and list what had to be left out."""

    def load(self) -> LoadedModel:
        """Load the model's weights."""

    def tell(self) -> dict[str, Json]:
        """What is good to know of the data and the model, for the vault's provenance."""

    def notes(self) -> list[str]:
        """What the user should know of the data that was made into records, a line each."""


def run_job(
    source: Source,
    out: Place,
    options: RunOptions,
    progress: Callable[[Progress], None] | None,
    watch: Stopwatch,
    executor: Executor | None = None,
    window: int = 8,
) -> ExtractReport:
    """Make the vault of a source, or go on with it.

    Args:
        source: data and model.
        out: the vault's folder, as :func:`check_out` let it pass.
        options: what to keep, and how to run.
        progress: called now and then, from this thread.
        watch: started when the extraction began.
        executor: who runs the units; as in :func:`qkvault_extractor.run_vault`.
        window: most units that it is given at a time.

    Raises:
        As :func:`qkvault_extractor.extract`.
    """
    job = _Job(source, out, options, watch)
    with watch.stage("plan"):  # all that is not counted for another
        complete = job.plan_or_go_on() == "complete"
        written = 0 if complete else job.run(executor, window, progress)
    return job.report(complete, written)


def plan_job(source: Source, out: Place, options: RunOptions) -> PlanReport:
    """Plan the vault of a source, or make sure that the one that is there is of that plan.

    Args:
        source: data and model.
        out: the vault's folder, as :func:`check_out` let it pass.
        options: what to keep, and how to run.

    Raises:
        As :func:`qkvault_extractor.plan`.
    """
    state = _Job(source, out, options, Stopwatch()).plan_or_go_on()
    found, was_there = qkvault.status(out), state not in ("absent", "empty")
    notes = tuple(source.notes())
    return PlanReport(was_there, found.examples, found.units, found.done, notes)


def check_out(out: Place) -> VaultState:
    """Refuse a folder that no vault can be made in.

    Raises:
        InputError: it holds something else, or cannot be made.
    """
    state = qkvault.vault_state(out)
    if not isinstance(out, Path):
        # Nothing is put over what stands there, and a plan that was cut short may go on.
        return "empty" if state == "other" else state
    if state == "other":
        kind = "a folder that is not a vault" if out.is_dir() else "a file"
        raise InputError(f"--out {out} is {kind}; give a new folder, or a vault to go on with")
    parent = out.absolute().parent
    if state == "absent" and not parent.is_dir():
        raise InputError(f"--out {out} cannot be made: there is no folder {parent}")
    return state


class _Job:
    """One extraction; the model's weights are loaded when first needed."""

    def __init__(self, source: Source, out: Place, options: RunOptions, watch: Stopwatch) -> None:
        self._source = source
        self._out = out
        self._options = options
        self._attention: AttentionSource = "derived" if options.attention == "derive" else "stored"
        self._loaded: LoadedModel | None = None
        self._probe: Probe | None = None
        self._writer: VaultWriter | None = None
        self._watch = watch
        with watch.stage("load"):  # weights are hashed
            own = source.identify()
        self._identity: dict[str, Json] = {
            **own,
            "arrays": list(options.arrays),
            "attention": options.attention,
            "precision": options.precision,
            "vectors": {name: kept for name, kept in options.vectors.items()},
        }

    def plan_or_go_on(self) -> VaultState:
        """Make the vault ready to be run; returns what stood there before."""
        state = qkvault.vault_state(self._out)
        if state in ("absent", "empty"):
            self._plan()
        else:
            self._writer = qkvault.resume(self._out, self._identity)
        return state

    def _plan(self) -> None:
        """Make records, load and check the model, then freeze the plan: the first thing written."""
        with self._watch.stage("tokenize"):
            records, rejects = self._source.make_records()
        loaded, probe = self._load_fitting(records, rejects)
        spec, noted = self._make_spec(loaded, probe), [reject.to_json() for reject in rejects]
        self._writer = qkvault.create(self._out, spec, records, rejects=noted)

    def _load_fitting(
        self, records: Sequence[Record], rejects: list[Reject]
    ) -> tuple[LoadedModel, Probe]:
        """Load the model and try it on the longest record that it gives finite numbers for; longer
        ones are moved to the rejects, if that is wanted."""
        if not isinstance(records, RecordSpool):
            return self._load(records)
        tried = 0
        while True:
            places = records.longest()
            try:
                return self._load([records[place] for place in places])
            except NotFinite as found:
                tried += 1
                reject = self._refuse(records[places[0]].id, Flaw(found.reason, OVERFLOW))
                if tried == TRIED or len(records) == 1:
                    raise
            records.remove(places[0])
            rejects.append(reject)
            rejects.sort(key=lambda reject: reject.number)

    def _make_spec(self, loaded: LoadedModel, probe: Probe) -> VaultSpec:
        options = self._options
        return VaultSpec(
            stacks=probe.stacks,
            arrays=options.arrays,
            precision=options.precision,
            vectors=options.vectors,
            logits=loaded.logits,
            label_names=loaded.label_names,
            identity=self._identity,
            provenance={**self._tell_run(loaded, probe), **self._source.tell()},
            attention=self._attention,
            derived_error=probe.derived_error,
            metrics=qkvault.METRICS if self._sees_attention() else (),
            target=probe.target,
        )

    def _sees_attention(self) -> bool:
        return "attention" in self._options.arrays or self._attention == "derived"

    def run(
        self,
        executor: Executor | None,
        window: int,
        progress: Callable[[Progress], None] | None,
    ) -> int:
        """Run what is pending and finish the vault; returns the bytes written.

        Rows that the model cannot be run on are left out at the end, if that is wanted, and what
        the new plan has besides is run.
        """
        assert self._writer is not None, "plan_or_go_on() comes first"
        written = 0
        while True:
            with self._writer as writer:
                crew = self._make_crew(writer, executor, window)
                try:
                    return written + run_crew(writer, writer.units, crew, 0, progress).bytes
                except Unfit as unfit:
                    written += unfit.written
                    flaws = unfit.flaws
                self._writer = self._leave_out(writer, flaws)

    def _make_crew(self, writer: VaultWriter, executor: Executor | None, window: int) -> Crew:
        options, stops = self._options, self._source.on_bad == "stop"
        location = self._source.tell().get("location")
        model = None if location is None else str(location)
        if executor is not None:
            self._loaded = self._probe = None  # workers load it; this process needs it no more
            job = Job.of(writer, model, options.device, options.batch_tokens)
            return Elsewhere(writer, job, executor, window, stops)
        if self._loaded is None or self._probe is None:
            self._loaded, self._probe = self._load(longest_records(writer))
            refuse_other_attention(writer.path, writer.spec, self._loaded, self._probe)
        ready = self._loaded, self._probe
        batch_tokens = options.batch_tokens
        return Here(writer, model, options.device, batch_tokens, ready, self._watch, stops)

    def _refuse(self, record_id: str, flaw: Flaw) -> Reject:
        """The row of a record that has a flaw.

        Raises:
            InputError, ResourceError: it is not to be left out.
        """
        reject = self._source.refuse(record_id, flaw.reason)
        if self._source.on_bad == "stop":
            raise flaw.error(reject.source)
        return reject

    def _leave_out(self, writer: VaultWriter, flaws: Mapping[int, Flaw]) -> VaultWriter:
        """Plan the vault anew without the examples that have a flaw, if that is wanted."""
        rejects = {
            number: self._refuse(writer.record(number).id, flaw)
            for number, flaw in sorted(flaws.items())
        }
        kept = [n for n in range(writer.examples) if n not in rejects]
        spec, lengths = writer.spec, writer.lengths
        if kept and rejects.keys() & set(longest(lengths)):
            # What a plan tells of the model was learnt from the longest, which is another now.
            tried = [writer.record(kept[place]) for place in longest(lengths[kept])]
            learnt = self._make_spec(*self._load(tried))
            spec = replace(learnt, thumbnails=spec.thumbnails)  # as its format has them
        noted = {number: reject.to_json() for number, reject in rejects.items()}
        return qkvault.leave_out(writer.path, noted, spec)

    def report(self, already_complete: bool, written: int) -> ExtractReport:
        """Sum up a finished vault."""
        with qkvault.open(self._out) as vault:
            rejected = vault.info()["rejects"]
            assert isinstance(rejected, int)
            profile = self._watch.profile()
            return ExtractReport(
                already_complete,
                len(vault),
                rejected,
                written,
                profile.wall,
                profile,
                tuple(self._source.notes()),
            )

    def _load(self, records: Sequence[Record]) -> tuple[LoadedModel, Probe]:
        with self._watch.stage("load"):
            return self._load_and_probe(records)

    def _load_and_probe(self, records: Sequence[Record]) -> tuple[LoadedModel, Probe]:
        if self._loaded is None:
            self._loaded = self._source.load()
        options = self._options
        kept = (self._attention, options.precision, options.vectors)
        self._probe = probe_for(self._loaded, records, *kept)
        return self._loaded, self._probe

    def _tell_run(self, loaded: LoadedModel, probe: Probe) -> dict[str, Json]:
        import torch
        import transformers

        return {
            "name": loaded.name,
            "type": str(loaded.model.config.model_type),
            "class": type(loaded.model).__name__,
            "parameters": sum(weights.numel() for weights in loaded.model.parameters()),
            "dtype": str(loaded.model.dtype).removeprefix("torch."),
            "device": loaded.device.type,
            "batch_tokens": self._options.batch_tokens or default_budget(loaded.device.type),
            "capture": (DERIVING if self._attention == "derived" else WAYS)[probe.way],
            "capture_difference": probe.difference,
            "left_out": [name for _, name in probe.left_out],
            "padded": probe.bears_padding,
            "qkvault": qkvault.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
