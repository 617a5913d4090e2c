"""llmrec turns a pretrained language model into a recommender.

The public names below are imported when first used, so that `import llmrec` and `llmrec --help` cost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from llmrec.utils.reproducibility import request_reproducible_products

if TYPE_CHECKING:
    from llmrec.api import FitResult, distill, evaluate, fit, pretrain, transfer
    from llmrec.config.backbone import BackboneConfig, LoraConfig
    from llmrec.config.checkpoints import CheckpointConfig
    from llmrec.config.data import DataConfig
    from llmrec.config.drift import DriftConfig
    from llmrec.config.evaluation import EvaluationConfig
    from llmrec.config.jobs.distill import DistillConfig
    from llmrec.config.jobs.evaluate import EvaluateConfig
    from llmrec.config.jobs.finetune import FinetuneConfig
    from llmrec.config.jobs.pretrain import PretrainConfig
    from llmrec.config.jobs.transfer import TransferConfig
    from llmrec.config.model import ModelConfig
    from llmrec.config.privacy import PrivacyConfig
    from llmrec.config.split import SplitConfig
    from llmrec.config.train import TrainConfig
    from llmrec.data.interactions import Interactions
    from llmrec.data.items.catalog import ItemCatalog
    from llmrec.data.loading import load_log
    from llmrec.data.splits import hold_out_items, leave_one_out, split_by_time
    from llmrec.drift.head import DriftHead
    from llmrec.recommender import Recommender
    from llmrec.training.trainer import Trainer

__version__ = "0.1.0"
__all__ = [
    "BackboneConfig",
    "CheckpointConfig",
    "DataConfig",
    "DistillConfig",
    "DriftConfig",
    "DriftHead",
    "EvaluateConfig",
    "EvaluationConfig",
    "FinetuneConfig",
    "FitResult",
    "Interactions",
    "ItemCatalog",
    "LoraConfig",
    "ModelConfig",
    "PretrainConfig",
    "PrivacyConfig",
    "Recommender",
    "SplitConfig",
    "TrainConfig",
    "Trainer",
    "TransferConfig",
    "__version__",
    "distill",
    "evaluate",
    "fit",
    "hold_out_items",
    "leave_one_out",
    "load_log",
    "pretrain",
    "split_by_time",
    "transfer",
]

_HOME = {
    "BackboneConfig": "llmrec.config.backbone",
    "CheckpointConfig": "llmrec.config.checkpoints",
    "DataConfig": "llmrec.config.data",
    "DistillConfig": "llmrec.config.jobs.distill",
    "DriftConfig": "llmrec.config.drift",
    "DriftHead": "llmrec.drift.head",
    "EvaluateConfig": "llmrec.config.jobs.evaluate",
    "EvaluationConfig": "llmrec.config.evaluation",
    "FinetuneConfig": "llmrec.config.jobs.finetune",
    "FitResult": "llmrec.api",
    "Interactions": "llmrec.data.interactions",
    "ItemCatalog": "llmrec.data.items.catalog",
    "LoraConfig": "llmrec.config.backbone",
    "ModelConfig": "llmrec.config.model",
    "PretrainConfig": "llmrec.config.jobs.pretrain",
    "PrivacyConfig": "llmrec.config.privacy",
    "Recommender": "llmrec.recommender",
    "SplitConfig": "llmrec.config.split",
    "TrainConfig": "llmrec.config.train",
    "Trainer": "llmrec.training.trainer",
    "TransferConfig": "llmrec.config.jobs.transfer",
    "distill": "llmrec.api",
    "evaluate": "llmrec.api",
    "fit": "llmrec.api",
    "hold_out_items": "llmrec.data.splits",
    "leave_one_out": "llmrec.data.splits",
    "load_log": "llmrec.data.loading",
    "pretrain": "llmrec.api",
    "split_by_time": "llmrec.data.splits",
    "transfer": "llmrec.api",
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
