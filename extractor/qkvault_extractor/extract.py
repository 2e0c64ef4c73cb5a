"""From options to a finished vault of texts: read, check, tokenize, and run the job.

Whatever is wrong with the data is told before any model file is opened, whatever is wrong with the
model before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qkvault import InputError
from qkvault_extractor.chat import place_messages, render_rows, template_hash
from qkvault_extractor.formats.conll import WORDS
from qkvault_extractor.global_tokens import find_rule
from qkvault_extractor.identity import generation_hash, identify_model, tokenizer_hash
from qkvault_extractor.inputs import load_inputs
from qkvault_extractor.job import check_out, plan_job, run_job
from qkvault_extractor.limits import decoder_limit_of, model_limit_of
from qkvault_extractor.rows import Reject
from qkvault_extractor.spool import RecordSpool
from qkvault_extractor.stopwatch import Stopwatch
from qkvault_extractor.targets import find_start, learnt_target
from qkvault_extractor.tokens import (
    encode_rows,
    find_spelled_specials,
    note_spelled_specials,
    number_words,
)

if TYPE_CHECKING:
    from qkvault import Json, Record
    from qkvault_extractor.model import LoadedModel
    from qkvault_extractor.options import (
        ExtractOptions,
        ExtractReport,
        OnBad,
        PlanReport,
        Progress,
    )
    from qkvault_extractor.rows import Inputs, Row


def extract(
    options: ExtractOptions,
    progress: Callable[[Progress], None] | None = None,
    *,
    executor: Executor | None = None,
    window: int = 8,
) -> ExtractReport:
    """Extract a data set into a vault, or go on with one that was begun.

    Args:
        options: what to extract.
        progress: called now and then, from this thread.
        executor: who runs the units; as in :func:`qkvault_extractor.run_vault`.
        window: most units that it is given at a time.

    Returns:
        What came of it.

    Raises:
        InputError: the data, the model or an option cannot be used; nothing has been written.
        PlanMismatch: the folder holds a vault made from something else; names what differs.
        VaultError: the folder holds a damaged vault.
        ResourceError: memory, disk or device ran out, or an extra is not installed; run again to
            go on.
    """
    watch = Stopwatch()
    check_out(options.out)
    with watch.stage("read"):
        inputs = _load_inputs(options)
    with watch.stage("load"):
        source = _TextSource(options, inputs, watch)
    return run_job(source, options.out, options, progress, watch, executor, window)


def plan(options: ExtractOptions) -> PlanReport:
    """Freeze a data set and an extraction's identity into a vault, and run nothing.

    :func:`qkvault_extractor.run_vault` needs no more than the vault and the model then.

    Args:
        options: what to extract. ``batch_tokens`` and the kind of ``device`` are part of the plan:
            where neither is said to it later, a run makes the batches that are planned here.

    Returns:
        What is to be run.

    Raises:
        InputError: as :func:`extract`; nothing has been written.
        PlanMismatch: the folder holds a vault made from something else; names what differs.
    """
    check_out(options.out)
    return plan_job(_TextSource(options, _load_inputs(options), Stopwatch()), options.out, options)


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
        chat=options.chat_template,
        target_column=options.target_column,
    )


class _TextSource:
    """Texts that have been read, and a model with its tokenizer."""

    def __init__(self, options: ExtractOptions, inputs: Inputs, watch: Stopwatch) -> None:
        from qkvault_extractor.model import load_config, load_tokenizer

        self._options = options
        self._inputs = inputs
        self._spelled: list[tuple[Row, str]] = []
        self._watch = watch
        self._config = load_config(options.model)
        self._tokenizer = load_tokenizer(options.model)
        self._limit = model_limit_of(self._config, self._tokenizer)
        self._global_tokens = find_rule(options.model, self._config, options.global_tokens)
        self._check_target()
        if self._global_tokens == "question" and len(inputs.text_columns) != 2:
            raise InputError(
                f"the global tokens of model {options.model} are those of the question, the first "
                "of two texts; name both columns with --text-columns, or say --global-tokens none"
            )
        if options.generate and len(inputs.text_columns) > 1:
            raise InputError(
                f"--generate goes on with one text, but the data has pairs "
                f"({', '.join(inputs.text_columns)}); name one with --text-columns"
            )

    @property
    def on_bad(self) -> OnBad:
        """As the options say."""
        return self._options.on_bad

    def refuse(self, record_id: str, reason: str) -> Reject:
        """A row of the data that cannot be used."""
        row = next(row for row in self._inputs.rows if row.id == record_id)
        return Reject(row.number, row.source, row.id, reason)

    def _check_target(self) -> None:
        options, kind = self._options, self._config.model_type
        two = self._config.is_encoder_decoder
        if two and options.target_column is None and options.generate is None:
            raise InputError(
                f"model {options.model} is an encoder-decoder (type {kind}), whose decoder reads a"
                " text of its own: say with --target-column which column holds it, or let the model"
                " write it with --generate"
            )
        if options.target_column is not None and not two:
            raise InputError(
                f"--target-column {options.target_column} is for encoder-decoders; model"
                f" {options.model} (type {kind}) reads one sequence: leave it out"
            )

    def identify(self) -> dict[str, Json]:
        """Hashes of texts, weights and tokenizer; how texts are cut, rendered and gone on with."""
        options = self._options
        identity: dict[str, Json] = {
            "data": self._inputs.text_hash,
            "model": identify_model(options.model, self._config),
            "tokenizer": tokenizer_hash(self._tokenizer),
            "max_length": options.max_length or self._limit,
            "truncate": options.truncate,
            "dtype": options.dtype,
        }
        if options.chat_template:
            identity["chat_template"] = template_hash(self._tokenizer, options.model)
        if options.generate:
            identity["generate"] = options.generate
            if (told := generation_hash(Path(options.model))) is not None:
                identity["generation_config"] = told
        if options.target_column is not None:
            identity["decoder_start"] = find_start(options.model, self._config)
        if self._global_tokens is not None:
            identity["global_tokens"] = self._global_tokens
        return identity

    def make_records(self) -> tuple[Sequence[Record], list[Reject]]:
        """Tokenize; write out conversations before, let the model go on afterwards."""
        options = self._options
        rows, refused = self._inputs.rows, self._inputs.rejects
        if options.chat_template:
            rows, unwritten = render_rows(
                rows, self._tokenizer, opens=bool(options.generate), on_bad=options.on_bad
            )
            refused = [*refused, *unwritten]
            self._inputs = replace(self._inputs, rows=[row.bare() for row in self._inputs.rows])
        else:
            self._spelled = find_spelled_specials(rows, self._tokenizer)
        records: Sequence[Record]
        records, rejects = encode_rows(
            _let_go(rows),
            self._tokenizer,
            max_length=options.max_length,
            truncate=options.truncate,
            model_limit=self._room_for_texts(),
            vocab_size=getattr(self._config.get_text_config(), "vocab_size", None),
            on_bad=options.on_bad,
            chat=options.chat_template,
        )
        if options.chat_template:
            records = RecordSpool(map(place_messages, records))
        if self._knows_words():
            records = RecordSpool(number_words(r, _words_of(r)) for r in records)
        if latents := getattr(self._config, "num_latents", 0):  # they read the text
            target = learnt_target("latent", latents)
            records = RecordSpool(replace(record, target=target) for record in records)
        if options.target_column is not None:
            records, unread = self._add_targets(records)
            rejects = [*rejects, *unread]
        if options.generate:
            with self._watch.stage("generate"):
                records = self._generate(records, options.generate)
        return records, sorted([*refused, *rejects], key=lambda reject: reject.number)

    def _add_targets(self, records: Sequence[Record]) -> tuple[Sequence[Record], list[Reject]]:
        from qkvault_extractor.targets import TargetMaker, add_targets

        options, config = self._options, self._config
        limit = decoder_limit_of(config, self._tokenizer)
        maker = TargetMaker(
            self._tokenizer,
            find_start(options.model, config),
            limit=min(filter(None, (options.max_length, limit)), default=None),
            truncate=options.truncate,
            vocab_size=getattr(config, "decoder_vocab_size", None)
            or getattr(config.get_text_config(), "vocab_size", None),
        )
        rows = {row.id: row for row in self._inputs.rows}
        return add_targets(records, rows, maker, options.on_bad)

    def _knows_words(self) -> bool:
        """Whether the data is cut into words, and those are what was tokenized."""
        return set(self._inputs.formats) == {"conll"} and self._inputs.text_columns == ("text",)

    def _room_for_texts(self) -> int | None:
        """The most tokens of a text as it comes from the data: all but those that are generated,
        where both are one sequence."""
        limit, generate = self._limit, self._options.generate
        if self._config.is_encoder_decoder:
            most = decoder_limit_of(self._config, self._tokenizer)
            if most is not None and (generate or 0) > most:
                raise InputError(
                    f"--generate {generate} is more than the {most} tokens that the decoder of "
                    f"model {self._options.model} takes"
                )
            return limit
        if limit is None or generate is None:
            return limit
        room = limit - generate
        if room < 1:
            raise InputError(
                f"--generate {generate} leaves no room for a prompt: the model takes "
                f"{limit} tokens in all"
            )
        return room

    def _generate(self, records: Sequence[Record], tokens: int) -> Sequence[Record]:
        """Let the model go on with texts, or write the targets of sources."""
        from qkvault_extractor.generating import continue_records, write_targets
        from qkvault_extractor.greedy import Generator

        options, config, tokenizer = self._options, self._config, self._tokenizer
        generator = Generator(
            options.model,
            config,
            device=options.device,
            dtype=options.dtype,
            first_is_global=self._global_tokens == "first",
        )
        if config.is_encoder_decoder:
            return write_targets(records, generator, config, tokenizer, tokens)
        keeps_end = options.chat_template
        return RecordSpool(
            continue_records(records, generator, tokenizer, tokens, keeps_end=keeps_end)
        )

    def load(self) -> LoadedModel:
        """Load the weights."""
        from qkvault_extractor.model import load_model

        options = self._options
        return load_model(
            options.model,
            self._config,
            self._tokenizer,
            options.device,
            options.dtype,
            self._global_tokens,
        )

    def tell(self) -> dict[str, Json]:
        """Where model and data came from, and how the data was read."""
        inputs = self._inputs
        return {
            "location": self._options.model,
            "sources": list(inputs.sources),
            "formats": list(inputs.formats),
            "text_columns": list(inputs.text_columns),
            "label_column": inputs.label_column,
            "id_column": inputs.id_column,
            "target_column": inputs.target_column,
            "data_label_names": list(inputs.label_names),
            "dropped_columns": list(inputs.dropped),
            "chat_template": self._options.chat_template,
            "generate": self._options.generate,
            "spelled_specials": len(self._spelled),
        }

    def notes(self) -> list[str]:
        """That special tokens are spelled in texts, where they are."""
        return [note] if (note := note_spelled_specials(self._spelled)) else []


def _let_go(rows: list[Row]) -> Iterator[Row]:
    """Give rows one by one, and keep of each but what names it: its record holds the rest."""
    for place, row in enumerate(rows):
        rows[place] = row.bare()
        yield row


def _words_of(record: Record) -> list[str]:
    words = record.columns[WORDS]
    assert isinstance(words, list)
    return [str(word) for word in words]
