"""llmrec turns a pretrained language model into a recommender.

The public names below are imported when first used, so that `import llmrec` and `llmrec --help` cost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from llmrec.utils.reproducibility import request_reproducible_products

if TYPE_CHECKING:
    from llmrec.data.catalog import ItemCatalog
    from llmrec.data.interactions import Interactions
    from llmrec.data.loading import load_log
    from llmrec.data.splits import leave_one_out, split_by_time
    from llmrec.recommender import Recommender

__version__ = "0.1.0"
__all__ = ["Interactions", "ItemCatalog", "Recommender", "__version__", "leave_one_out", "load_log", "split_by_time"]

_HOME = {
    "Interactions": "llmrec.data.interactions",
    "ItemCatalog": "llmrec.data.catalog",
    "Recommender": "llmrec.recommender",
    "leave_one_out": "llmrec.data.splits",
    "load_log": "llmrec.data.loading",
    "split_by_time": "llmrec.data.splits",
}

request_reproducible_products()  # before torch multiplies for the first time


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'llmrec' has no attribute {name!r}; it has {', '.join(__all__)}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value  # the next access finds it without this function
    return value


def __dir__() -> list[str]:
    return __all__
