"""Strategies that adapt a pretrained backbone, and a report of what each trains.

`frozen` is feature transfer; `last_k`, `lora`, `peft` and `full` are parameter transfer.

Source:
    LoRA: Hu et al. 2021, arXiv:2106.09685; DoRA: Liu et al. 2024, arXiv:2402.09353; rsLoRA: Kalajdzievski 2023,
    arXiv:2312.03732; IA3: Liu et al. 2022, arXiv:2205.05638; VeRA: Kopiczko et al. 2023, arXiv:2310.11454; LoHa:
    Hyeon-Woo et al. 2021, arXiv:2108.06098; LoKr: Edalati et al. 2022, arXiv:2212.10650; all by PEFT.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from llmrec.backbones.layers import get_last_layers
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.config.peft import ALL_LINEAR, AdapterSettings
from llmrec.errors import BackboneError

BYTES_PER_TRAINED = 16  # weight, gradient and Adam's two moments in fp32


@dataclass(frozen=True)
class TransferReport:
    """Size and memory of what a strategy trains."""

    strategy: str
    """Name of the strategy."""
    trainable: int
    """Number of backbone parameters that train."""
    total: int
    """Number of backbone parameters."""
    memory_mib: float
    """MiB of weights, gradients and optimizer states, without activations."""

    def __str__(self) -> str:
        share = self.trainable / max(self.total, 1)
        return (
            f"{self.strategy}: {self.trainable:,} of {self.total:,} backbone parameters trained ({share:.2%}), "
            f"{self.memory_mib:,.0f} MiB for weights, gradients and optimizer states"
        )


def apply_strategy(backbone: TextBackbone, config: BackboneConfig) -> TransferReport:
    """Set which weights of a backbone train, and add adapters if the strategy has them.

    Args:
        backbone: Backbone to change, in place.
        config: Strategy and its settings.

    Returns:
        Size and memory of what trains.

    Raises:
        BackboneError: If the architecture does not support the strategy; the message says what it supports.
    """
    for parameter in backbone.model.parameters():
        parameter.requires_grad_(config.strategy == "full")
    if config.strategy == "last_k":
        for module in get_last_layers(backbone.model, config.last_k):
            module.requires_grad_(requires_grad=True)
    if config.adapter is not None:
        backbone.model = add_adapter(backbone.model, config.adapter)
    return build_transfer_report(backbone, config.strategy)


def build_transfer_report(backbone: TextBackbone, strategy: str) -> TransferReport:
    """Report the size and memory of what trains in a backbone.

    Args:
        backbone: Backbone with its strategy applied.
        strategy: Name of the strategy.

    Returns:
        The report.
    """
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in backbone.model.parameters()]
    total = sum(size for size, _ in sizes)
    trainable = sum(size for size, trains in sizes if trains)
    memory = (4 * (total - trainable) + BYTES_PER_TRAINED * trainable) / 2**20
    return TransferReport(strategy, trainable, total, memory)


def add_adapter(model: nn.Module, adapter: AdapterSettings) -> nn.Module:
    """Add adapter layers by PEFT, the only layers that train.

    Args:
        model: Pretrained model.
        adapter: Method and settings.

    Returns:
        The adapted model.

    Raises:
        BackboneError: If the target modules do not exist.
    """
    from peft import get_peft_model

    given = adapter.target_modules
    targets = given if isinstance(given, str) else list(given)
    chosen = targets if adapter.last_k is None else _list_last_layers(model, adapter.last_k, targets)
    try:
        with _silence_peft():
            adapted: Any = get_peft_model(model, _make_peft_config(adapter, chosen))
    except ValueError as error:
        raise BackboneError(
            f"target_modules={given!r}: {error}. Use some of the linear layers {_list_linear_layers(model)}."
        ) from error
    return adapted.eval()  # type: ignore[no-any-return]


def _make_peft_config(adapter: AdapterSettings, targets: str | list[str]) -> Any:
    from peft import TaskType, get_peft_config

    kind = {"peft_type": adapter.method.peft_type, "task_type": TaskType.FEATURE_EXTRACTION}
    return get_peft_config(kind | {"target_modules": targets} | adapter.settings)


def _list_last_layers(model: nn.Module, k: int, targets: str | list[str]) -> list[str]:
    """List the full names of the linear layers in the top k layers that `targets` selects."""
    if isinstance(targets, str) and targets != ALL_LINEAR:
        raise BackboneError(f"last_k={k}: target_modules={targets!r} selects layers too. Set one, or a list of names.")
    top = {
        id(part)
        for layer in get_last_layers(model, k, wanted_by="last_k")
        for part in layer.modules()
        if _is_linear(part)
    }
    names = [name for name, part in model.named_modules() if id(part) in top]
    return [name for name in names if targets == ALL_LINEAR or name.rsplit(".", 1)[-1] in targets]


def _list_linear_layers(model: nn.Module) -> list[str]:
    """List the names by which an adapter can select a model's layers."""
    return sorted({name.rsplit(".", 1)[-1] for name, part in model.named_modules() if _is_linear(part)})


def _is_linear(part: nn.Module) -> bool:
    """Return whether a module is a linear layer, including GPT-2's own kind."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(part, (nn.Linear, Conv1D))


def load_adapter(model: nn.Module, folder: Path, adapter: AdapterSettings, targets: list[str]) -> nn.Module:
    """Load adapter layers that PEFT has saved.

    Args:
        model: Pretrained model.
        folder: Folder of the saved layers.
        adapter: Method and settings.
        targets: Names of the adapted layers.

    Returns:
        The adapted model.

    Raises:
        BackboneError: If there are no weights in safetensors; PEFT would unpickle others.
    """
    from peft import PeftModel
    from peft.utils import SAFETENSORS_WEIGHTS_NAME

    # PEFT's own description in the folder is not read: it can request imports of modules and unpickling of files.
    if not (folder / SAFETENSORS_WEIGHTS_NAME).is_file():
        raise BackboneError(
            f"{folder}: no {SAFETENSORS_WEIGHTS_NAME}, the only format that is loaded. Save the weights in it."
        )
    with _silence_peft():
        adapted: Any = PeftModel.from_pretrained(model, str(folder), config=_make_peft_config(adapter, targets))
    return adapted.eval()  # type: ignore[no-any-return]


@contextmanager
def _silence_peft() -> Iterator[None]:
    """Hide PEFT's warnings about deprecated names of transformers and about GPT-2's transposed layers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", "fan_in_fan_out", UserWarning)
        yield
