"""Reader for data sets of the ``datasets`` library: by name, or folders of ``save_to_disk``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qkvault import InputError, ResourceError
from qkvault_extractor.formats.source import Raw, Source, peek
from qkvault_extractor.suggestion import did_you_mean, list_names

if TYPE_CHECKING:
    from collections.abc import Generator

_BATCH_ROWS = 1024


def is_saved(folder: Path) -> bool:
    """Tell whether ``save_to_disk`` made this folder (a Dataset's or a DatasetDict's)."""
    return any((folder / n).is_file() for n in ("state.json", "dataset_dict.json"))


def read_dataset(name: str, split: str | None, config: str | None) -> Source:
    """Open a data set: a saved folder, a folder ``load_dataset`` understands, or a Hub name.

    Args:
        name: the folder or the name.
        split: which split; may be left out where there is only one. Where ``load_dataset`` reads,
            its slices (``train[:100]``) work too.
        config: the data set's configuration (GLUE's ``mrpc``); not for saved folders.

    Raises:
        InputError: no such data set, configuration or split, or no split given among several.
        ResourceError: ``datasets`` is not installed.
    """
    datasets = _load_library()
    folder = Path(name).expanduser()
    if is_saved(folder):
        found = _load_saved(datasets, folder, split, config)
    elif folder.is_dir():
        found = _load_named(datasets, str(folder), split, config)
    else:
        found = _load_named(datasets, name, split, config)
    if folder.is_dir():
        name = folder.resolve().name  # rows are kept with their source, but not with a local path
    if isinstance(found, Mapping):
        split = _choose_split(name, list(found), split)
        found = found[split]
    label = name if split is None else f"{name} ({split})"
    classes = {c: tuple(f.names) for c, f in found.features.items() if hasattr(f, "names")}
    columns = tuple(found.column_names)
    return peek(label, "datasets", _walk(label, found, classes), columns, label_names=classes)


def _load_library() -> Any:
    try:
        return import_module("datasets")
    except ImportError as error:
        raise ResourceError(
            "reading a data set by name or a saved folder needs the datasets library, which is not"
            " installed: pip install 'qkvault[datasets]'"
        ) from error


def _load_saved(datasets: Any, folder: Path, split: str | None, config: str | None) -> Any:
    if config is not None:
        raise InputError(f"{folder} is a saved data set and has no --config; leave it out")
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # the library raises what its many readers raise
        raise InputError(f"{folder} is not a readable saved data set ({_first(error)})") from error
    if split is not None and not isinstance(found, Mapping) and str(found.split) != split:
        raise InputError(f"{folder} is one saved split ({found.split}), not {split!r}")
    return found


def _load_named(datasets: Any, name: str, split: str | None, config: str | None) -> Any:
    try:
        return datasets.load_dataset(name, config, split=split)
    except Exception as error:  # the library raises what the Hub and its readers raise
        if split is not None and "split" in str(error).lower():
            _choose_split(name, _list_splits(datasets, name, config) or [split], split)
        wanted = f"{name!r}" if config is None else f"{name!r} (configuration {config!r})"
        raise InputError(
            f"no file, no folder and no data set {wanted} that could be loaded ({_first(error)})"
        ) from error


def _list_splits(datasets: Any, name: str, config: str | None) -> list[str]:
    try:
        return list(datasets.get_dataset_split_names(name, config))
    except Exception:  # only to say more in an error that is raised anyway
        return []


def _choose_split(name: str, splits: list[str], split: str | None) -> str:
    if split is None and len(splits) == 1:
        return splits[0]
    if split is None:
        raise InputError(f"{name} has several splits ({list_names(splits)}); say --split NAME")
    if split not in splits:
        raise InputError(
            f"{name} has no split {split!r}{did_you_mean(split, splits) or ';'}"
            f" splits: {list_names(splits)}"
        )
    return split


def _walk(name: str, data: Any, classes: Mapping[str, tuple[str, ...]]) -> Generator[Raw]:
    """Read through Arrow, so that images and sound are not decoded only to be left out."""
    number = 0
    for table in data.with_format("arrow").iter(batch_size=_BATCH_ROWS):
        for values in table.to_pylist():
            for column in classes:
                if values[column] == -1:  # how the library writes "no label"
                    values[column] = None
            yield Raw(f"{name} row {number}", values)
            number += 1


def _first(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
