"""The configuration of the recommender's own layers, and of how it reads histories."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llmrec.errors import ConfigError

HISTORY = "{history}"
HistoryEncoderName = Literal["sequence", "backbone", "text"]


@dataclass(frozen=True)
class HistoryTextConfig:
    """A history as one text, for `history_encoder: text`. Each item has at most `backbone.max_tokens` tokens in it.

    max_tokens: of the whole text; where a history is longer, whole items are left out, the oldest first.
    separator: after each item. prompt: what stands around the items.
    targets_per_history: how many of a history's targets a step asks for at most, drawn anew in each epoch: each costs a
        text. An
        evaluation reads a text for each query; `evaluation.max_queries` and `max_valid_queries` bound it.
    """

    max_tokens: int = 256
    separator: str = ";"
    prompt: str = HISTORY
    targets_per_history: int = 4

    def __post_init__(self) -> None:
        if self.prompt.count(HISTORY) != 1:
            raise ConfigError(f"model.history_text.prompt={self.prompt!r}: it has to hold {HISTORY} once")
        if self.targets_per_history < 1:
            raise ConfigError(
                f"model.history_text.targets_per_history={self.targets_per_history}: ask for at least one target of a "
                "history"
            )


@dataclass(frozen=True)
class ModelConfig:
    """The recommender's own layers.

    history_encoder: `sequence`, a transformer of its own over item vectors, which alone has n_layers, n_heads, block,
        feedforward_multiplier, time_bias and input_norm; `backbone`, item vectors enter the pretrained decoder as its
        words do; `text`, the pretrained model reads the history as a text (`history_text`). The last two train as
        `backbone.strategy` says.
    feedforward_multiplier: width of the feed-forward layers, in `dim`s. max_history: events that a state looks back on.
    use_item_ids: add a gated id embedding to the text vector. id_dropout: share of items whose id is hidden in a step.
    whiten: start the text adaptor as a PCA whitening. item_init_std, id_init_scale: standard deviation of item vectors
        at the
        start, and of id vectors in proportion to it.
    similarity: of states and items; `cosine` is divided by a learned temperature.
    item_affinity: how strongly, to start with, the history's items speak for items like them, beside the transformer;
        0: not
        at all.
    text_similarity: beside what is trained, items gain by how near their text is to the texts of the history, as much
        as
        validation finds best, which may be nothing. Vectors to rank by are longer for it, by those of the text.
    time_bias: attention also sees the time between events.
    input_norm: item vectors, positions added, are normalised before the first block, so that blocks that know nothing
        yet do not drown which items they are.
    query_time: whether the model is told when the target happens (`known`) or only the last event's time.
    """

    dim: int = 64
    n_layers: int = 1
    n_heads: int = 2
    block: Literal["sasrec", "ligr"] = "sasrec"
    feedforward_multiplier: int = 4
    max_history: int = 50
    dropout: float = 0.5
    use_item_ids: bool = True
    id_dropout: float = 0.1
    whiten: bool = True
    similarity: Literal["dot", "cosine"] = "dot"
    temperature: float = 0.05
    item_init_std: float = 0.1
    id_init_scale: float = 1.0
    item_affinity: float = 10.0
    text_similarity: bool = True
    time_bias: bool = True
    input_norm: bool = False
    query_time: Literal["known", "last_event"] = "last_event"
    history_encoder: HistoryEncoderName = "sequence"
    history_text: HistoryTextConfig = field(default_factory=HistoryTextConfig)

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
        """How many targets of a training window a step may ask for; None: all."""
        return self.history_text.targets_per_history if self.history_encoder == "text" else None
