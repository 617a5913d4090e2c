"""Settings of recipes/transfer.py: those of finetune.py for the target domain, and the sources."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from llmrec.config.data import DataConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.order_only import ORDER_SPLITS
from llmrec.errors import ConfigError


@dataclass(frozen=True)
class TransferConfig(FinetuneConfig):
    """Transfer from source domains to a target domain, whose settings are those of FinetuneConfig."""

    sources: tuple[DataConfig, ...] = ()
    """Logs of the source domains; events after the target's validation start are left out, where
    both have times."""
    train_fraction: float = 1.0
    """Share of the target's training users whose events are used."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sources:
            raise ConfigError("sources is empty; name at least one log to learn from before the target's")
        if not 0 < self.train_fraction <= 1:
            raise ConfigError(
                f"train_fraction={self.train_fraction}: give a share of the training users above 0, up to 1"
            )
        self._choose_split()
        if self.backbone.strategy == "none":
            raise ConfigError("backbone.strategy none: two domains have no ids in common; only text can be transferred")
        if self.model.history_encoder != "sequence":
            raise ConfigError(
                f"model.history_encoder={self.model.history_encoder}: the four ways are compared with one encoder that "
                "no backbone belongs to; give sequence"
            )
        if self.drift is not None:
            raise ConfigError("drift: a head is fitted by finetune.py; leave it out here")
        if self.privacy is not None or self.membership is not None:
            raise ConfigError(
                "privacy and membership are finetune.py's: sources would need a guarantee too; leave them out"
            )

    def _choose_split(self) -> None:
        """Compare domains on one split: by_time, or leave_one_out where the target has no times."""
        names = self.split.names
        if self.data.times == "order_only":
            if names == ORDER_SPLITS:
                object.__setattr__(self, "split", replace(self.split, names=("leave_one_out",)))
            elif len(names) > 1:
                raise ConfigError(f"split.names={list(names)}: domains are compared on one split. Give one name.")
        elif names != ("by_time",):
            raise ConfigError(f"split.names={list(names)}: domains are compared by_time alone")

    def to_finetune_config(self) -> FinetuneConfig:
        """Return the settings that a bundle keeps.

        Returns:
            The settings without sources.
        """
        return FinetuneConfig(**{field.name: getattr(self, field.name) for field in fields(FinetuneConfig)})
