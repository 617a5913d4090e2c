"""Loading of the log that a bundle was trained on, or of another log of its items."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from llmrec.config.data import DataConfig
from llmrec.config.split import SplitName
from llmrec.data.loading import load_log
from llmrec.data.log import Log
from llmrec.data.pseudonyms import Pseudonymizer
from llmrec.data.readers.hub import HUB
from llmrec.data.readers.memory import LogTables
from llmrec.data.readers.movielens import MOVIELENS
from llmrec.errors import ConfigError, DataError
from llmrec.hub.bundle import Bundle, load_bundle
from llmrec.hub.layout import is_download
from llmrec.hub.remote import resolve_bundle

PLACES = {"source", "interactions", "items"}  # overridden together


def load_bundle_log(bundle: Bundle, config: DataConfig, *, tables: LogTables | None = None) -> Log:
    """Load a log for a bundle.

    Args:
        bundle: A loaded bundle.
        config: Sources and columns of the log.
        tables: Events and items in memory, instead of the sources.

    Returns:
        The log.

    Raises:
        ConfigError: If the key of the bundle's pseudonyms is missing or wrong, or the configuration names no log.
        DataError: If the log cannot be read.
    """
    Pseudonymizer(config.pseudonyms, bundle.facts.get("pseudonyms")).require_key()
    return load_log(config, tables)


class TrainingLog:
    """The log that a bundle was trained on, which is read when it is needed and kept."""

    def __init__(self, bundle: Bundle, folder: Path, *, log: Log | None = None) -> None:
        """Remember where the log is.

        Args:
            bundle: A loaded bundle.
            folder: Its folder.
            log: The log, if it is loaded.
        """
        self.bundle, self.folder, self._log = bundle, folder, log

    def read(self, data: DataConfig | None = None) -> Log:
        """Read the log that the bundle was trained on, or another one of its items.

        Args:
            data: Settings that replace those of the bundle.

        Returns:
            The log.

        Raises:
            DataError: If the log cannot be read, or a downloaded bundle names it by a path on another machine.
        """
        if data is not None:
            return load_bundle_log(self.bundle, override_data_config(self.bundle.config.data, data))
        if self._log is None:
            self._check_places()
            self._log = load_bundle_log(self.bundle, self.bundle.config.data)
        return self._log

    def _check_places(self) -> None:
        data = self.bundle.config.data
        places = [place for place in (data.source, data.interactions, data.items) if place is not None]
        if is_download(self.folder) and not all(place.startswith((MOVIELENS, HUB)) for place in places):
            lost = f"{', '.join(places)}: not on this machine, since the bundle was downloaded."
            raise DataError("log", [f"{lost} Give the log if you have it."])


def override_data_config(trained: DataConfig, given: DataConfig | None) -> DataConfig:
    """Replace settings of a bundle's log by those that differ from the default.

    Args:
        trained: Settings of the bundle's log.
        given: Other settings; None for no changes.

    Returns:
        The combined settings.
    """
    if given is None:
        return trained
    settings = {field.name: getattr(given, field.name) for field in fields(given)}
    changes: dict[str, Any] = {key: value for key, value in settings.items() if value != getattr(DataConfig, key)}
    if changes.keys() & PLACES:
        changes = {key: getattr(given, key) for key in PLACES} | changes
    return replace(trained, **changes)


def load_bundle_and_log(
    bundle: Path, data: DataConfig | None, *, backbone: str | None = None, tables: LogTables | None = None
) -> tuple[Bundle, Log]:
    """Load a bundle and a log of its items to evaluate it on.

    Args:
        bundle: Folder or Hub name of the bundle.
        data: Settings that replace those of the bundle's log; None for its own log.
        backbone: Folder or Hub id of the base; None as in `load_backbone`.
        tables: Events and items in memory, instead of the sources.

    Returns:
        The bundle and the log.

    Raises:
        ConfigError: If the log has other items.
    """
    loaded = load_bundle(resolve_bundle(bundle), backbone)
    log = load_bundle_log(loaded, override_data_config(loaded.config.data, data), tables=tables)
    if not log.catalog.ids.equals(loaded.catalog.ids):
        raise ConfigError(
            f"{log.facts.source}: its items differ from the bundle's in ids or order. Give the bundle's log."
        )
    return loaded, log


def training_overlap_warning(bundle: Bundle, log: Log, split: SplitName) -> str | None:
    """Return a warning if training may have seen the test part, else None.

    Args:
        bundle: A loaded bundle.
        log: Log to evaluate on.
        split: Name of the split to evaluate on.

    Returns:
        One line of text, or None.
    """
    if split == bundle.config.split.names[0] and log.facts.fingerprint == bundle.facts["fingerprint"]:
        return None
    return "log or split differs from the one this recommender was trained on: training may have seen the test part"
