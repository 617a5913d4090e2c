"""Linear layers of a frozen base in 8 or 4 bits, below adapters that train (QLoRA).

Source:
    Dettmers et al. 2023, arXiv:2305.14314; by bitsandbytes.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

import torch

from llmrec.config.backbone import Quantization
from llmrec.errors import BackboneError, missing_extra


def build_quantization(name: str, kind: Quantization) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that quantize a model on this process's device.

    Args:
        name: Name of the backbone, for messages.
        kind: int8 or nf4.

    Returns:
        Arguments by name.

    Raises:
        BackboneError: If bitsandbytes is not installed, or does not run here.
    """
    if find_spec("bitsandbytes") is None:
        raise BackboneError(
            f"backbone {name!r}: backbone.quantize={kind} needs the package bitsandbytes. {missing_extra('quantize')}"
        )
    from transformers import BitsAndBytesConfig

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # says at every layer that it rounds its inputs
    device: int | str = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
    compute = torch.float32 if device == "cpu" else torch.bfloat16
    few: dict[str, Any] = {"load_in_8bit": True}
    if kind == "nf4":
        few = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": compute}
    make: Any = BitsAndBytesConfig  # untyped
    return {"quantization_config": make(**few), "device_map": {"": device}}
