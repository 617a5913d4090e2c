"""Settings of the recommender's own layers and its history encoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from llmrec.config.validation import COUNT_FROM_1, POSITIVE, SHARE, WIDTH, Bounds
from llmrec.errors import ConfigError

HISTORY = "{history}"
AdaptorStart = Literal["auto", "spectral", "whitening", "random"]
HistoryEncoderName = Literal["sequence", "backbone", "text"]


@dataclass(frozen=True)
class HistoryTextConfig:
    """A history as one text, for history_encoder text; each item has at most backbone.max_tokens tokens."""

    max_tokens: Annotated[int, Bounds(2, WIDTH)] = 256
    """Tokens of the whole text; the oldest items are left out first."""
    separator: str = ";"
    """Text after each item."""
    prompt: str = HISTORY
    """Text around the items, which replace {history}."""
    targets_per_history: Annotated[int, COUNT_FROM_1] = 4
    """Maximum number of targets of a history in a step, drawn again in each epoch."""

    def __post_init__(self) -> None:
        if self.prompt.count(HISTORY) != 1:
            raise ConfigError(f"model.history_text.prompt={self.prompt!r}: it has to hold {HISTORY} once")


@dataclass(frozen=True)
class ModelConfig:
    """The recommender's own layers."""

    dim: Annotated[int, Bounds(1, WIDTH)] = 64
    """Width of item vectors and user states."""
    n_layers: Annotated[int, Bounds(0, 1000)] = 1
    """Number of transformer blocks over the history."""
    n_heads: Annotated[int, Bounds(1, WIDTH)] = 2
    """Number of attention heads; they divide dim."""
    block: Literal["sasrec", "ligr"] = "sasrec"
    """Kind of transformer block."""
    feedforward_multiplier: Annotated[int, Bounds(1, 1000)] = 4
    """Width of feed-forward layers, in multiples of dim."""
    max_history: Annotated[int, Bounds(1, 2**20)] = 50
    """Number of recent events that a user state is computed from."""
    dropout: Annotated[float, Bounds(0, 0.99)] = 0.5
    """Share of activations that are dropped in training."""
    use_item_ids: bool = True
    """Add a gated id embedding to the text vector."""
    id_dropout: Annotated[float, SHARE] = 0.1
    """Share of items whose id is hidden in a step."""
    adaptor_start: AdaptorStart = "auto"
    """Start of the text adaptor: spectral (map by which items chosen in turn are similar, also of text similarity),
    whitening, random, or auto for spectral if it ranks the validation queries better than texts as they are."""
    similarity: Literal["dot", "cosine"] = "dot"
    """Score of user state and item: dot product, or cosine divided by a learned temperature."""
    temperature: Annotated[float, POSITIVE] = 0.05
    """Initial temperature of similarity cosine."""
    item_init_std: Annotated[float, POSITIVE] = 0.1
    """Standard deviation of item vectors at the start."""
    id_init_scale: Annotated[float, Bounds(0)] = 1.0
    """Standard deviation of id vectors at the start, as a multiple of item_init_std."""
    item_affinity: Annotated[float, Bounds(0)] = 10.0
    """Initial strength with which items of the history raise the scores of similar items; 0 turns it off."""
    text_similarity: bool = True
    """Add the similarity of an item's text to those of the history, with a strength set on validation."""
    repeat_bias: bool = True
    """Weigh items of the history, as validation says, where rankings keep them (evaluation.mask_seen false)."""
    time_bias: bool = True
    """Let attention see the time between events."""
    input_norm: bool = False
    """Normalize item vectors, positions added, before the first block."""
    query_time: Literal["known", "last_event"] = "last_event"
    """Time that the model is given: known is the target's, last_event the time of the newest event."""
    history_encoder: HistoryEncoderName = "sequence"
    """Reader of histories: sequence (own transformer), backbone (item vectors), text (one text)."""
    history_text: HistoryTextConfig = field(default_factory=HistoryTextConfig)
    """Text of a history, for history_encoder text."""

    def __post_init__(self) -> None:
        if self.history_encoder == "sequence" and (self.n_heads < 1 or self.dim % self.n_heads):
            raise ConfigError(f"model.n_heads={self.n_heads}: model.dim={self.dim} cannot be divided among so many")
        if self.history_encoder != "sequence" and self.query_time == "known":
            raise ConfigError(
                f"model.query_time=known: histories by `{self.history_encoder}` see no times; give last_event, or "
                "model.history_encoder sequence"
            )

    @property
    def targets_per_history(self) -> int | None:
        """Return the maximum number of targets of a training window in a step; None for all."""
        return self.history_text.targets_per_history if self.history_encoder == "text" else None
