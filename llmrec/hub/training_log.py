"""The log of a bundle: the one it was trained on, or another of its items."""

from __future__ import annotations

from llmrec.config.data import DataConfig
from llmrec.data.loading import load_log
from llmrec.data.log import Log
from llmrec.data.pseudonyms import UserNames
from llmrec.hub.bundle import Bundle


def log_of(bundle: Bundle, config: DataConfig) -> Log:
    """A log for a bundle.

    Raises:
        ConfigError: pseudonyms, and no key or another one than the bundle's; and as `load_log` does.
    """
    UserNames(config.pseudonyms, bundle.facts.get("pseudonyms")).ready()
    return load_log(config)
