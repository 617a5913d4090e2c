"""What a bundle keeps of a fitted drift head: its weights, the chain's among them, and the text that the chain reads.

The chain was fitted on vectors of the backbone as it was before any training. Under feature transfer these are the
item table's own, and are not written twice; where the backbone was trained they are stored beside it. Kept are the
vectors and not the chain's tables (N, K), because text neighbours are made of them too, and because an item that comes
later is placed like all others: its vector by the untrained backbone, less the same centre.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from llmrec.config import DriftConfig
from llmrec.data.interactions import Ties
from llmrec.data.splits import Split
from llmrec.evaluation.replay import ChainTables, Stream
from llmrec.hub.layout import LAYOUT
from llmrec.models.drift.head import DriftHead
from llmrec.models.drift.latent import LatentChain
from llmrec.training.drift import Fit

HEAD = "head."


@dataclass(frozen=True)
class FittedDrift:
    """A head with its chain, and what they need of the items.

    transition_half_life_days: the one of the configured ones that suited best. text: (N, D) vectors of the backbone
    before any training of it, or None for ids alone. centre: (D,) their mean when the head was fitted.
    """

    head: DriftHead
    transition_half_life_days: float
    text: Tensor | None = None
    centre: Tensor | None = None

    @classmethod
    def of(cls, fit: Fit, text: Tensor | None) -> FittedDrift:
        """text: the vectors that `fit` was made with."""
        centre = None if text is None else text.mean(0)
        return cls(fit.head, fit.stream.transition_half_life_days, text, centre)

    def vectors(self, text: Tensor | None = None) -> Tensor | None:
        """(N, D) unit vectors as the chain was fitted on: of the catalog, or of other `text` read by the untrained
        backbone.
        """
        text = self.text if text is None else text
        return None if text is None or self.centre is None else functional.normalize(text - self.centre, dim=1)

    def stream(self, config: DriftConfig, split: Split, ties: Ties, text_neighbours: bool = True) -> Stream:
        """What the head is replayed on, over a log of the bundle's items. text_neighbours: where only counted moves and
        the chain are looked at, there is no need for them.
        """
        vectors = None if self.text is None else self.vectors(self.text[: split.n_items])
        stream = Stream.of(config, split, ties, vectors if text_neighbours else None)
        stream = replace(stream, transition_half_life_days=self.transition_half_life_days)
        if self.head.chain is None or vectors is None:
            return stream
        return replace(stream, chain=ChainTables.of(self.head.chain, vectors))


def save_drift(folder: Path, drift: FittedDrift, table: Tensor | None) -> None:
    """table: the item table (N, D) of the bundle, which may hold the same vectors."""
    tensors = {HEAD + name: weight.detach().cpu().contiguous() for name, weight in drift.head.state_dict().items()}
    if drift.text is not None and drift.centre is not None:
        tensors["centre"] = drift.centre.cpu().contiguous()
        if table is None or not torch.equal(drift.text.cpu(), table[: len(drift.text)].cpu()):
            tensors["text"] = drift.text.cpu().contiguous()
    save_file(tensors, folder / LAYOUT.drift)


def load_drift(folder: Path, config: DriftConfig, half_life_days: float, table: Tensor | None) -> FittedDrift:
    """Items that came after the fit and that the untrained backbone has not read lie at the centre: they say nothing
    of anyone's interest.
    """
    tensors = load_file(folder / LAYOUT.drift)
    weights = {name.removeprefix(HEAD): weight for name, weight in tensors.items() if name.startswith(HEAD)}
    directions = weights.get("chain.direction")
    head = DriftHead(config, None if directions is None else LatentChain(torch.zeros_like(directions)))
    head.load_state_dict(weights, strict=True)
    text, centre = tensors.get("text", table), tensors.get("centre")
    if text is None or table is None or centre is None:
        return FittedDrift(head.requires_grad_(False).eval(), half_life_days)
    text = torch.cat([text, centre.expand(len(table) - len(text), -1)])
    return FittedDrift(head.requires_grad_(False).eval(), half_life_days, text, centre)
