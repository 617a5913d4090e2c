"""Adaptation of a backbone by items: steps by a loss until held-out items are ranked no better."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.config.adaptation import ItemAdaptConfig
from llmrec.training.checkpoints import Progress
from llmrec.training.distributed.collectives import all_gather_with_grad, take_own_share
from llmrec.training.item_adaptation.held_out_items import HeldOutItems
from llmrec.training.item_adaptation.item_losses import ItemLoss, ItemStep
from llmrec.training.micro_batching import BACKBONE, explain_out_of_memory
from llmrec.training.training_loop import RunState, TrainingLoop
from llmrec.utils.arrays import Rows
from llmrec.utils.timing import timer

TRIED = 4  # steps by which the scale of cosines is chosen
SCALE_RATE = 1e-2  # learning rate of that scale


class ItemObjective(nn.Module):
    """Backbone and loss as one module, as DDP requires.

    Each process encodes a share of the items and receives all of them, and computes the same loss.

    Args:
        reader: Encoder of the catalog, whose backbone trains.
        dropped: The same with texts that lack some fields; None to read whole texts alone.
        loss_function: Draws steps and computes their losses.
        before: Text vectors of the catalog before training, (N, D_text).
        config: Weight of the anchor, and share of dropped texts.
    """

    before: Tensor
    """Text vectors before training, (N, D_text)."""

    def __init__(
        self,
        reader: CatalogEncoder,
        dropped: CatalogEncoder | None,
        loss_function: ItemLoss,
        *,
        before: Tensor,
        config: ItemAdaptConfig,
    ) -> None:
        super().__init__()
        self.reader, self.dropped, self.loss_function, self.config = reader, dropped, loss_function, config
        self.backbone = reader.backbone
        self.register_buffer("before", before, persistent=False)

    def forward(self, step: ItemStep, seed: tuple[int, ...]) -> Tensor:
        """Compute the loss of a step.

        Args:
            step: Items of the step.
            seed: Seed of the choice of dropped texts.

        Returns:
            The loss, a scalar.
        """
        vectors = self._encode(step.rows, np.random.default_rng(seed).random(len(step.rows)))
        loss: Tensor = self.loss_function(vectors, step)
        if self.config.anchor:
            before = self.before[torch.from_numpy(step.rows).to(vectors.device)]
            loss = loss + self.config.anchor * (1 - (vectors * before).sum(1)).mean()
        return loss

    def _encode(self, rows: Rows, chance: NDArray[np.float64]) -> Tensor:
        """Return the text vectors, (U, D_text), a share of them by the texts that lack fields."""
        whole = rows if self.dropped is None else rows[chance >= self.config.dropped_share]
        parts = [_encode_shared(self.reader, whole)]
        if self.dropped is None:
            return parts[0]
        short = rows[chance < self.config.dropped_share]
        if len(short):
            parts.append(_encode_shared(self.dropped, short))
        order = np.argsort(np.concatenate([whole, short]))
        return torch.cat(parts)[torch.from_numpy(order).to(parts[0].device)]


class ItemAdapter(TrainingLoop):
    """Train a backbone by a loss, and keep the weights that rank held-out items best.

    Args:
        objective: Backbone and loss.
        held_out: Items that decide.
        config: Settings of training.
        accelerator: Processes of the run.
        run: Identity of the fit.
        n_items: Items to learn from.
    """

    objective: ItemObjective
    config: ItemAdaptConfig

    def __init__(
        self,
        objective: ItemObjective,
        held_out: HeldOutItems,
        config: ItemAdaptConfig,
        accelerator: Accelerator,
        *,
        run: RunState,
        n_items: int,
    ) -> None:
        self.held_out = held_out
        n_steps = max(round(config.epochs * n_items / config.items_per_step), 1)
        self.eval_every = -(-n_steps // config.evals)
        super().__init__(objective, config, accelerator, run, n_steps=n_steps)
        steps = [objective.loss_function.draw_step(step, run.seed) for step in range(TRIED)]
        objective.loss_function.begin(objective.before, steps)
        self._make_optimizer()

    @explain_out_of_memory(BACKBONE)
    def fit(self) -> Progress:
        """Train until the last step or until held-out items, also ranked before the first, gain no more.

        Returns:
            The progress; the best weights are in the objective.

        Raises:
            MemoryLimitError: If a step does not fit in memory.
        """
        return super().fit()

    def _start(self) -> None:
        self._measure()

    def _run_steps(self) -> None:
        """Take one step."""
        number, seed = self.progress.step, self.run.seed
        step = self.objective.loss_function.draw_step(number, seed)
        self.wrapped.train()
        with self.accelerator.autocast():
            loss = self.wrapped(step, (seed, number, 1))
        self.accelerator.backward(loss)
        self._clip()
        self._apply_gradients()
        self._count_step(float(loss.detach()), 1)
        measured = self.progress.step % self.eval_every == 0 or self._is_over()
        if measured:
            self._measure()
        self._poll(measured=measured)

    def _is_over(self) -> bool:
        return self.progress.step >= self.n_steps

    def _measure(self) -> None:
        progress = self.progress
        with timer.section("validate"):
            ndcg = self.held_out.measure(self._encode)
        point = {"step": progress.step, "held_out_items_ndcg": ndcg}
        if progress.n_losses:
            point["loss"] = progress.loss / progress.n_losses
        point["scale"] = float(self.objective.loss_function.log_scale.detach().exp())
        self._report_measurement(f"step {progress.step}", point)
        self._judge(ndcg, float(progress.step))

    @torch.no_grad()
    def _encode(self, rows: Rows) -> Tensor:
        """Return text vectors of catalog rows on the CPU; each process encodes a share."""
        return _encode_shared(self.objective.reader, rows).float().cpu()

    def _make_parameter_groups(self) -> list[dict[str, Any]]:
        config, objective = self.config, self.objective
        adapters = objective.backbone.config.adapter is not None
        rate = config.learning_rate or (5e-4 if adapters else 1e-4)
        scale = objective.loss_function.log_scale
        head = [parameter for parameter in objective.loss_function.parameters() if parameter is not scale]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in objective.backbone.parameters() if p.requires_grad], "lr": rate},
            {"params": [scale], "lr": SCALE_RATE, "weight_decay": 0.0},
        ]
        return [*groups, {"params": head, "lr": config.head_learning_rate}] if head else groups


def _encode_shared(reader: CatalogEncoder, rows: Rows) -> Tensor:
    return all_gather_with_grad(reader.encode_with_grad(take_own_share(rows)), len(rows))
