"""Train with the backbone sharded among processes: weights, gradients and optimizer states, by torch's FSDP2.

The layers above the backbone are small and replicated. Steps run on the shards; the backbone is gathered to encode the
catalog, to validate and to save. Accelerate's own FSDP would leave it sharded there, and silently skips it on CPUs; so
Accelerate's configuration only requests it. FSDP: Zhao et al. 2023, arXiv:2304.11277.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from llmrec.backbones.layers import find_layer_stack
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.errors import ConfigError
from llmrec.training.trainer import Trainer


class ShardedBackbone:
    """Backbone of which each process holds a part; its parameters are DTensors until `gather_weights`.

    Args:
        backbone: Backbone to shard.
        accelerator: Processes that share it.
    """

    def __init__(self, backbone: TextBackbone, accelerator: Accelerator) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        self.backbone, self.accelerator = backbone, accelerator
        self.whole_model = backbone.model.to("cpu")
        self.model = copy.deepcopy(self.whole_model)  # moved to the device layer by layer
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        reshard = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() != "false"
        for layer in find_layer_stack(self.model, "fsdp"):
            fully_shard(layer, mesh=mesh, reshard_after_forward=reshard)
        fully_shard(self.model, mesh=mesh, reshard_after_forward=reshard)
        self._shard()
        n_weights = sum(weight.numel() for weight in self.model.parameters())
        accelerator.print(
            f"FSDP2: the backbone's {n_weights:,} weights are sharded among {accelerator.num_processes} processes; "
            "the rest of the model is whole in each"
        )

    def _shard(self) -> None:
        self.backbone.model, self.backbone.rounds = self.model, self._reduce_max
        self.whole_model.to("cpu")

    def _reduce_max(self, n_batches: int) -> int:
        """Return the maximum over processes, since they must pass through sharded layers equally often."""
        most = torch.tensor(n_batches, device=self.accelerator.device)
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        return int(most)

    @torch.no_grad()
    def gather_weights(self) -> None:
        """Gather the whole backbone in all processes."""
        if self.backbone.model is self.whole_model:
            return
        whole = dict(self.whole_model.named_parameters())
        for name, weight in self.model.named_parameters():
            if weight.requires_grad:  # the others have not changed
                whole[name].copy_(_gather_full(weight))
        self.backbone.model, self.backbone.rounds = self.whole_model.to(self.accelerator.device), int

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Gather the backbone for the code within, and shard it again after it if it was sharded."""
        apart = self.backbone.model is self.model
        self.gather_weights()
        try:
            yield
        finally:
            if apart:
                self._shard()

    @torch.no_grad()
    def scatter(self) -> None:
        """Copy the weights of the whole backbone to the shards."""
        whole = dict(self.whole_model.named_parameters())
        for name, weight in self.model.named_parameters():
            weight.copy_(_lay_out_like(weight, whole[name]))

    def average_gradients(self, module: nn.Module) -> None:
        """Average the gradients of replicated weights over processes, as FSDP does for the shards.

        Args:
            module: Module with both kinds of weights.
        """
        for weight in module.parameters():
            if weight.grad is not None and not isinstance(weight.grad, DTensor):
                distributed.all_reduce(weight.grad)
                weight.grad /= self.accelerator.num_processes

    def clip_gradients(self, module: nn.Module, most: float) -> None:
        """Scale all gradients so that their common norm is at most `most`.

        Args:
            module: Module with replicated and sharded weights.
            most: Maximum norm.
        """
        kinds: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
        for weight in module.parameters():
            if weight.grad is not None:
                kinds[isinstance(weight.grad, DTensor)].append(weight)
        norms = [
            _gather_full(nn.utils.get_total_norm([w.grad for w in kind if w.grad is not None]))
            for kind in kinds
            if kind
        ]
        total = torch.stack(norms).norm()
        for kind in kinds:
            nn.utils.clip_grads_with_norm_(kind, most, total)


class ShardedOptimizer:
    """Optimizer of shards whose state is saved and loaded as that of a single process.

    All processes call `gather` before one of them reads `state_dict`.

    Args:
        optimizer: Optimizer of the sharded weights.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.of_shards, self._state = optimizer, dict[str, Any]()

    @property
    def optimizer(self) -> ShardedOptimizer:
        """Return this optimizer, where Accelerate's wrapper returns the one inside."""
        return self

    def step(self) -> None:
        """Update the weights."""
        self.of_shards.step()

    def zero_grad(self) -> None:
        """Reset the gradients."""
        self.of_shards.zero_grad()

    def gather(self) -> None:
        """Gather the state of all shards for `state_dict`."""
        self._state = self._map_state(self.of_shards.state_dict(), lambda _, value: _gather_full(value))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the last `gather`.

        Returns:
            The state dict with whole tensors.
        """
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state with whole tensors, and divide it among the shards.

        Args:
            state: State dict with whole tensors.
        """
        weights = [weight for group in self.of_shards.param_groups for weight in group["params"]]

        def lay_out(row: int, value: Tensor) -> Tensor:
            return _lay_out_like(weights[row], value) if value.shape == weights[row].shape else value

        self.of_shards.load_state_dict(self._map_state(state, lay_out))

    def _map_state(self, state: dict[str, Any], change: Callable[[int, Tensor], Tensor]) -> dict[str, Any]:
        """Return the state with a function applied to every tensor of each weight's row."""
        rows = {row: {k: change(row, value) for k, value in values.items()} for row, values in state["state"].items()}
        return {"state": rows, "param_groups": state["param_groups"]}


class ShardedTrainer(Trainer):
    """Trainer whose objective has a sharded backbone.

    Raises:
        ConfigError: If a setting does not work with shards.
    """

    def _shard_backbone(self) -> None:
        if self.objective.backbone is None:
            raise ValueError("there is no backbone to shard")
        if self.config.micro_batches == "auto":
            raise ConfigError(
                "micro_batches: auto tries what fits in each process alone, which shards cannot; give a number"
            )
        if self.accelerator.mixed_precision == "fp16":
            raise ConfigError("mixed_precision: fp16: shards train in fp32 or bf16")
        if self.objective.backbone.config.gradient_checkpointing:
            raise ConfigError("backbone.gradient_checkpointing: not with FSDP; leave it out, or launch with ddp.yaml")
        self.shards = ShardedBackbone(self.objective.backbone, self.accelerator)

    def _prepare(self, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        return self.objective, ShardedOptimizer(optimizer)

    def _clip(self) -> None:
        self.shards.average_gradients(self.objective)
        if self.config.max_grad_norm > 0:
            self.shards.clip_gradients(self.objective, self.config.max_grad_norm)

    def _refresh(self) -> None:
        with self.shards.gathered():
            super()._refresh()

    def _measure(self, *given: Any) -> None:
        with self.shards.gathered():
            super()._measure(*given)

    def _save(self, *given: Any) -> None:
        self.optimizer.gather()
        with self.shards.gathered():
            super()._save(*given)

    def _resume(self) -> None:
        with self.shards.gathered():
            super()._resume()
        self.shards.scatter()

    def _keep_best(self) -> None:
        self.shards.gather_weights()
        super()._keep_best()


def _gather_full(tensor: Any) -> Any:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _lay_out_like(weight: Tensor, value: Tensor) -> Tensor:
    """Return the value laid out as the weight is."""
    if not isinstance(weight, DTensor):
        return value
    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)
