"""From ready-made features to a finished vault: images and sounds, through the Python API."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from qkvault_extractor.features import FeatureFeed, Features, FeatureSet
from qkvault_extractor.identity import loaded_weights_hash
from qkvault_extractor.job import check_out, run_job
from qkvault_extractor.rows import Reject
from qkvault_extractor.stopwatch import Stopwatch

if TYPE_CHECKING:
    from qkvault import Json, Record
    from qkvault_extractor.model import LoadedModel
    from qkvault_extractor.options import ExtractReport, FeatureOptions, OnBad, Progress


def extract_features(
    options: FeatureOptions,
    inputs: Iterable[Features],
    progress: Callable[[Progress], None] | None = None,
) -> ExtractReport:
    """Extract ready-made features into a vault, or go on with one that was begun.

    The tokens of the vault are the model's: ``[CLS]``, ``patch 3,4`` (row and column, from 0),
    ``frame 17``. Examples share a forward pass only with others of the same shape, so that nothing
    is padded.

    Args:
        options: which model, into which vault, and what to keep.
        inputs: the examples. A sequence is read when needed, twice; what is none is gathered first.
        progress: called now and then, from this thread.

    Returns:
        What came of it.

    Raises:
        InputError: features, model or an option cannot be used; nothing has been written.
        PlanMismatch: the folder holds a vault made from something else; names what differs.
        VaultError: the folder holds a damaged vault.
        ResourceError: memory, disk or device ran out; run again to go on.
    """
    watch = Stopwatch()
    check_out(options.out)
    source = _FeatureSource(options, FeatureSet(inputs))
    return run_job(source, options.out, options, progress, watch)


class _FeatureSource:
    """Features that have been read once, and a model that takes them."""

    def __init__(self, options: FeatureOptions, features: FeatureSet) -> None:
        from qkvault_extractor.feature_model import input_name, load_feature_model

        self._given = options.model
        self._features = features
        self._model = load_feature_model(options.model, options.device, features.arguments)
        self._input = input_name(self._model)

    @property
    def on_bad(self) -> OnBad:
        """Features that cannot be used are the caller's to leave out."""
        return "stop"

    def refuse(self, record_id: str, reason: str) -> Reject:
        """An example that cannot be used."""
        place = next(n for n, row in enumerate(self._features.rows) if row.id == record_id)
        return Reject(place, f"features {place}", record_id, reason)

    def identify(self) -> dict[str, Json]:
        """Hashes of features and weights, and how they meet."""
        return {
            "features": self._features.hash,
            "input": self._input,
            "model": loaded_weights_hash(self._model),
        }

    def make_records(self) -> tuple[list[Record], list[Reject]]:
        """Learn from the model what its tokens are."""
        from qkvault_extractor.feature_tokens import make_records

        return make_records(self._model, self._input, self._features), []

    def load(self) -> LoadedModel:
        """Say how the model is fed."""
        from qkvault_extractor.feature_model import name_loaded, ready_feature_model
        from qkvault_extractor.feature_tokens import takes_batches

        feed = FeatureFeed(
            self._features,
            self._input,
            self._model.dtype,
            takes_batches(self._model, self._input, self._features),
        )
        return ready_feature_model(self._model, name_loaded(self._given), feed)

    def tell(self) -> dict[str, Json]:
        """Where the model came from, and what the examples looked like."""
        shapes = sorted({shape for shape, _ in self._features.kinds})
        return {
            **({"location": self._given} if isinstance(self._given, str) else {}),
            "input": self._input,
            "shapes": len(shapes),
            "largest_shape": list(max(shapes)),
        }

    def notes(self) -> list[str]:
        """Nothing."""
        return []
