"""What the decoder of an encoder-decoder reads: target texts, tokenized and shifted to the right.

A decoder is trained to say at each place what comes next, so that it reads a start token first and
the text's last token never: it only says it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from qkvault import InputError, Target
from qkvault_extractor.encoders import make_encoder
from qkvault_extractor.machine import quiet
from qkvault_extractor.rows import Reject
from qkvault_extractor.spool import RecordSpool
from qkvault_extractor.tokens import Spelling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qkvault import Record
    from qkvault_extractor.encoders import Encoded
    from qkvault_extractor.options import OnBad
    from qkvault_extractor.rows import Row

WRAPS: Final = frozenset({"mbart"})
"""Types of models whose decoders start with the token that ends their labels: mBART's language."""

STARTS_WITH_PAD: Final = frozenset({"longt5", "mt5", "switch_transformers", "t5", "umt5"})
"""Types that start with the padding token where a checkpoint does not say (Raffel et al. 2020)."""

STARTS_WITH_BOS: Final = frozenset({"t5gemma", "t5gemma2"})
"""Types that start with their decoder's own first token where a checkpoint does not say."""

_BATCH_ROWS: Final = 1024


def find_start(model: str, config: Any) -> int | None:
    """The id of the token that a model's decoder starts with.

    Args:
        model: local folder or Hub name.
        config: its configuration.

    Returns:
        The id; None where it is the label's own last token.

    Raises:
        InputError: the checkpoint does not say.
    """
    if config.model_type in WRAPS:
        return None
    found = getattr(config, "decoder_start_token_id", None)
    if found is None:
        found = _generation_start(model)
    if found is None and config.model_type in STARTS_WITH_PAD:
        found = config.pad_token_id
    if found is None and config.model_type in STARTS_WITH_BOS:
        found = config.decoder.bos_token_id
    if not isinstance(found, int):
        raise InputError(
            f"model {model} does not say which token its decoder starts with; "
            "put decoder_start_token_id into its config.json"
        )
    return found


def _generation_start(model: str) -> int | None:
    from transformers import GenerationConfig

    with quiet():
        try:
            told = GenerationConfig.from_pretrained(model)
        except Exception:  # a foreign file, or none
            return None
    return getattr(told, "decoder_start_token_id", None)


def learnt_target(kind: str, count: int) -> Target:
    """What reads an example where it is no text: queries that a model has learnt.

    Args:
        kind: what they are called, such as ``latent``.
        count: how many they are.
    """
    names = tuple(f"{kind} {number}" for number in range(count))
    return Target("", names, tuple(range(count)), (0,) * count)


class TargetMaker:
    """Makes targets of texts, or of what a model has generated.

    Args:
        tokenizer: a transformers tokenizer.
        start: of :func:`find_start`.
        limit: most tokens that the decoder reads; None for no limit.
        truncate: cut what is longer.
        vocab_size: entries in the decoder's vocabulary; None to leave ids unchecked.
    """

    def __init__(
        self,
        tokenizer: Any,
        start: int | None,
        *,
        limit: int | None = None,
        truncate: bool = False,
        vocab_size: int | None = None,
    ) -> None:
        self._encoder = make_encoder(tokenizer)
        self._spelling = Spelling(tokenizer)
        self._start = start
        self._limit = limit
        self._truncate = truncate
        self._vocab_size = vocab_size

    def make(self, texts: Sequence[str]) -> list[Target | str]:
        """Make the target of each text, or say why none can be made.

        Raises:
            InputError: a token id that the model does not have.
        """
        return [
            self._make(text, encoded)
            for text, encoded in zip(texts, self._encoder.encode_targets(texts, None), strict=True)
        ]

    def _make(self, text: str, encoded: Encoded) -> Target | str:
        if self._limit is not None and len(encoded.ids) > self._limit:
            if not self._truncate:
                return (
                    f"the target has {len(encoded.ids)} tokens where {self._limit} are taken at"
                    " most; cut with --truncate"
                )
            (encoded,) = self._encoder.encode_targets([text], self._limit)
        if flaw := encoded.flaw(1, self._encoder.special_ids):
            return f"in the target, {flaw}"
        return self.shift(text, encoded.ids, encoded.special, encoded.offsets, encoded.words)

    def shift(
        self,
        text: str,
        labels: Sequence[int],
        special: Sequence[int],
        offsets: Sequence[tuple[int, int]] = (),
        words: Sequence[int] = (),
    ) -> Target:
        """Make a target of what the decoder is to say; arguments as of :class:`qkvault.Target`.

        Raises:
            InputError: a token id that the model does not have.
        """
        wraps = self._start is None
        first = labels[-1] if self._start is None else self._start
        ids = (first, *labels[:-1])
        if self._vocab_size is not None and max(ids) >= self._vocab_size:
            raise InputError(
                f"a target has the token id {max(ids)}, but the decoder's vocabulary ends at"
                f" {self._vocab_size - 1}: the tokenizer belongs to another model"
            )
        return Target(
            text=text,
            tokens=tuple(map(self._spelling.__getitem__, ids)),
            token_ids=ids,
            special=(special[-1] if wraps else 1, *special[:-1]),
            offsets=((offsets[-1] if wraps else (0, 0)), *offsets[:-1]) if offsets else (),
            words=((words[-1] if wraps else -1), *words[:-1]) if words else (),
        )


def add_targets(
    records: Sequence[Record], rows: Mapping[str, Row], maker: TargetMaker, on_bad: OnBad
) -> tuple[RecordSpool, list[Reject]]:
    """Give records the targets of their rows.

    Args:
        records: made of the rows.
        rows: by id.
        maker: makes targets.
        on_bad: "stop" raises at the first that cannot be used, "skip" lists it.

    Raises:
        InputError: as on "stop"; or no record is left.
    """
    kept = RecordSpool()
    rejects: list[Reject] = []
    for start in range(0, len(records), _BATCH_ROWS):
        batch = records[start : start + _BATCH_ROWS]
        own = [rows[record.id] for record in batch]
        for record, row, made in zip(batch, own, maker.make([_text(r) for r in own]), strict=True):
            if isinstance(made, Target):
                kept.append(replace(record, target=made))
            elif on_bad == "stop":
                raise InputError(f"{row.source}: {made}, or leave out with --on-bad skip")
            else:
                rejects.append(Reject(row.number, row.source, row.id, made))
    if not kept:
        raise InputError(
            f"none of the {len(rejects)} rows can be used; {rejects[0].source}: {rejects[0].reason}"
        )
    return kept, rejects


def _text(row: Row) -> str:
    assert row.target is not None, "the column of targets was read"
    return row.target
