"""Settings of the pretrained language model and its adaptation."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from llmrec.config.peft import METHODS, AdapterSettings, PeftSettings
from llmrec.config.validation import COUNT_FROM_1, WIDTH, Bounds
from llmrec.errors import ConfigError

HiddenStatePrecision = Literal["auto", "fp32", "bf16", "none"]
Quantization = Literal["int8", "nf4"]
EncodePrecision = Literal["fp32", "auto"]
Pooling = Literal["auto", "mean", "cls", "last", "weighted_mean", "max", "mean_sqrt_length", "echo"]
Strategy = Literal["none", "frozen", "last_k", "lora", "peft", "full"]
TEXT = "{text}"  # place of the text in a prompt
PROMPT_NAME = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters of the backbone."""

    rank: Annotated[int, Bounds(1, WIDTH)] = 8
    """Rank of each adapter."""
    alpha: Annotated[int, COUNT_FROM_1] = 16
    """Scale of the adapters; their product is multiplied by alpha / rank."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Names of the linear layers that get an adapter, or all-linear."""
    use_dora: bool = False
    """Train magnitude and direction separately (DoRA)."""
    use_rslora: bool = False
    """Divide alpha by the square root of the rank instead of the rank."""
    last_k: Annotated[int | None, COUNT_FROM_1] = None
    """Number of top layers with adapters; null: all."""

    def to_adapter(self) -> AdapterSettings:
        """Return the same layers under PEFT's names.

        Returns:
            The adapter.
        """
        settings = {"r": self.rank, "lora_alpha": self.alpha, "use_dora": self.use_dora, "use_rslora": self.use_rslora}
        return AdapterSettings(METHODS["lora"], settings, self.target_modules, self.last_k)


@dataclass(frozen=True)
class BackboneConfig:
    """The pretrained language model that reads item texts, and how it is adapted."""

    name: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Hub id, local folder, GGUF file, or packaged: all-MiniLM-L6-v2, SmolLM2-135M-Instruct, wordllama."""
    hub_id: str | None = None
    """Hub id that the bundle records if `name` is a local copy; null: `name`."""
    revision: str | None = None
    """Branch, tag or commit of the model on the hub; null: main."""
    n_layers: Annotated[int | None, COUNT_FROM_1] = None
    """Number of first layers to keep; null: all."""
    pooling: Pooling = "auto"
    """Way to combine token vectors; auto as the checkpoint says, else mean or, for decoders, last. Echo reads each text
    twice, and takes the mean over the second time, in which a decoder has seen all of it."""
    bidirectional: bool = False
    """Let each token of a decoder see the whole text. Its vectors are of use after training alone, such as pretrain
    with the objective contrast."""
    max_tokens: Annotated[int, Bounds(2, WIDTH)] = 64
    """Maximum number of tokens of a text; longer texts are cut."""
    prompt: str | None = None
    """Text around each item text, which replaces {text}, or name of a prompt of the checkpoint; null: its default. A
    decoder read by its last token is read at the end of the prompt if that goes on after {text}, else at an EOS."""
    strategy: Strategy = "frozen"
    """Trained part: none (ids alone, no backbone), frozen, last_k (top layers), lora, peft or full."""
    last_k: Annotated[int, COUNT_FROM_1] = 2
    """Number of top layers that the strategy last_k trains."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Adapters of the strategy lora."""
    peft: PeftSettings = field(default_factory=dict)
    """Adapters of the strategy peft: type (lora, dora, rslora, ia3, vera, loha, lokr) and PEFT's own settings."""
    hidden_state_cache: HiddenStatePrecision = "auto"
    """Precision of the disk cache of layers below those that train; auto is fp32 up to 4 GiB, then none."""
    encode_precision: EncodePrecision = "fp32"
    """Precision of reading a catalog: fp32, or auto for fp16 on GPUs and bf16 on CPUs that are faster with it."""
    quantize: Quantization | None = None
    """Form of the linear layers of a frozen base, by bitsandbytes: int8 or nf4 (4 bits); null: as they are. With lora
    and peft, this is QLoRA (extra: quantize)."""
    compile: bool = False
    """Compile reading with encode_precision auto on a GPU: slower to start, then 10 to 20% faster."""
    gradient_checkpointing: bool = False
    """Recompute layers in the backward pass, to save memory for time; the gradients are the same."""

    def __post_init__(self) -> None:
        if self.prompt is not None and TEXT not in self.prompt and not PROMPT_NAME.fullmatch(self.prompt):
            raise ConfigError(
                f"backbone.prompt={self.prompt!r}: it has to hold {TEXT}, or to name a checkpoint's prompt"
            )
        if self.compile and self.encode_precision != "auto":
            raise ConfigError(
                "backbone.compile: only encode_precision auto is compiled; give backbone.encode_precision: auto as well"
            )
        if self.quantize is not None:
            self._check_quantized()
        if self.strategy == "peft" or self.peft:
            AdapterSettings.from_peft(self.peft)

    def _check_quantized(self) -> None:
        if self.strategy in ("none", "last_k", "full"):
            raise ConfigError(
                f"backbone.quantize={self.quantize}: weights in few bits do not train, and strategy {self.strategy} "
                "would train them; give strategy lora, peft or frozen"
            )
        adapter = self.adapter
        dora = adapter is not None and adapter.settings.get("use_dora") and self.quantize == "int8"
        if adapter is not None and (adapter.method.peft_type in ("LOHA", "LOKR") or dora):
            kind = "DoRA" if dora else adapter.method.peft_type
            raise ConfigError(
                f"backbone.quantize={self.quantize}: PEFT has no {kind} on such layers; give lora, or peft.type lora, "
                "rslora, ia3, vera, or dora with nf4"
            )
        if self.encode_precision != "fp32":
            raise ConfigError("backbone.quantize: its layers have a precision of their own; leave encode_precision out")

    @property
    def adapter(self) -> AdapterSettings | None:
        """Adapter layers of the strategy; None if it has none."""
        if self.strategy == "peft":
            return AdapterSettings.from_peft(self.peft)
        return self.lora.to_adapter() if self.strategy == "lora" else None

    def without_adaptation(self) -> BackboneConfig:
        """Return the settings without adaptation, on which stored text vectors depend.

        Returns:
            The changed settings.
        """
        return replace(
            self, strategy="frozen", last_k=2, lora=LoraConfig(), peft={}, hidden_state_cache="auto", compile=False,
            gradient_checkpointing=False,
        )  # fmt: skip
