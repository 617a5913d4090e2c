"""Modules of sentence-transformers between the pooling and the text vector: Dense, LayerNorm, Normalize."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from llmrec.backbones.model_files.vector_recipe import LayerSpec
from llmrec.errors import BackboneError

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # the second is what sentence-transformers 2 writes
DENSE_SETTINGS = {
    "in_features", "out_features", "bias", "activation_function", "module_input_name", "module_output_name",
    "use_residual",
}  # fmt: skip
POOLED = "sentence_embedding"  # sentence-transformers' name of the pooled vector


class Dense(nn.Module):
    """Linear layer with an activation, and a residual connection if the checkpoint has one.

    Args:
        settings: Settings in its config.json.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        n_in, n_out = int(settings["in_features"]), int(settings["out_features"])
        self.linear = nn.Linear(n_in, n_out, bias=settings.get("bias", True))
        self.activation = _make_activation(str(settings.get("activation_function", "torch.nn.modules.activation.Tanh")))
        self.has_residual = bool(settings.get("use_residual"))
        if self.has_residual and n_in != n_out:
            self.residual = nn.Linear(n_in, n_out, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            vectors: Pooled vectors, (U, D).

        Returns:
            Vectors, (U, D_out).
        """
        made: Tensor = self.activation(self.linear(vectors))
        if not self.has_residual:
            return made
        return made + (self.residual(vectors) if hasattr(self, "residual") else vectors)


class LayerNorm(nn.Module):
    """Layer norm of the pooled vector.

    Args:
        settings: Settings in its config.json.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(int(settings["dimension"]))

    def forward(self, vectors: Tensor) -> Tensor:
        """Normalize vectors to mean 0 and variance 1, then scale them.

        Args:
            vectors: Pooled vectors, (U, D).

        Returns:
            Vectors, (U, D).
        """
        made: Tensor = self.norm(vectors)
        return made


class Normalize(nn.Module):
    """Division by the length.

    Args:
        settings: Settings in its config.json, usually none.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()

    def forward(self, vectors: Tensor) -> Tensor:
        """Bring vectors to length 1.

        Args:
            vectors: Pooled vectors, (U, D).

        Returns:
            Vectors, (U, D).
        """
        return functional.normalize(vectors, dim=-1)


KINDS = {"Dense": Dense, "LayerNorm": LayerNorm, "Normalize": Normalize}


class VectorLayers(nn.Sequential):
    """Layers after the pooling, which never train.

    Args:
        layers: Layers, in order.
        specs: Statements of the checkpoint on each.
        n_dims: Number of first dimensions to keep; None for all.
    """

    def __init__(
        self, layers: Sequence[nn.Module] = (), specs: Sequence[LayerSpec] = (), *, n_dims: int | None = None
    ) -> None:
        super().__init__(*layers)
        self.specs, self.n_dims = tuple(specs), n_dims
        self.requires_grad_(requires_grad=False)

    @classmethod
    def load(cls, folder: Path, specs: Sequence[LayerSpec], n_dims: int | None) -> VectorLayers:
        """Load the layers of a checkpoint.

        Args:
            folder: Folder of the checkpoint.
            specs: Its modules after the pooling.
            n_dims: Number of first dimensions to keep; None for all.

        Returns:
            The layers.

        Raises:
            BackboneError: If a module cannot be loaded or has a setting that is not understood.
        """
        kept = [spec for spec in specs if spec.kind in KINDS]
        if kept and kept[-1].kind == "Normalize":  # as every text vector is in the end
            kept.pop()
        return cls([_load_layer(folder, spec) for spec in kept], kept, n_dims=n_dims)

    def forward(self, vectors: Tensor) -> Tensor:
        """Make text vectors of pooled ones.

        Args:
            vectors: Pooled vectors, (U, D).

        Returns:
            Unit vectors, (U, D_text).
        """
        for layer in self:
            vectors = layer(vectors)
        return functional.normalize(vectors[..., : self.n_dims], dim=-1)

    def get_width(self, pooled: int) -> int:
        """Return the length of a text vector.

        Args:
            pooled: Length of a pooled vector.

        Returns:
            D_text.
        """
        widths = [layer.linear.out_features for layer in self if isinstance(layer, Dense)]
        width = int(widths[-1]) if widths else pooled
        return width if self.n_dims is None else min(width, self.n_dims)

    def describe(self) -> str:
        """Describe the layers without their weights.

        Returns:
            Their settings; empty if there are no layers.
        """
        settings = [[spec.kind, dict(spec.settings)] for spec in self.specs]
        return json.dumps([settings, self.n_dims], sort_keys=True) if settings or self.n_dims else ""

    def save(self, folder: Path, first: int) -> list[tuple[str, str]]:
        """Write the layers in the form of sentence-transformers.

        Args:
            folder: Folder of the checkpoint.
            first: Number of the first layer's module.

        Returns:
            Kind and path of each module.
        """
        written = []
        for place, (layer, spec) in enumerate(zip(self, self.specs, strict=True), start=first):
            path = f"{place}_{spec.kind}"
            (folder / path).mkdir()
            (folder / path / "config.json").write_text(json.dumps(spec.settings, indent=2))
            if state := {name: weight.contiguous() for name, weight in layer.state_dict().items()}:
                save_file(state, folder / path / WEIGHT_FILES[0])
            written.append((spec.kind, path))
        return written


def _load_layer(folder: Path, spec: LayerSpec) -> nn.Module:
    where = f"{folder}: module {spec.kind} ({spec.path})"
    if spec.kind == "Dense":
        _check_dense(where, spec)
    try:
        layer = KINDS[spec.kind](dict(spec.settings))
        if layer.state_dict():
            layer.load_state_dict(_read_weights(folder / spec.path, where))
    except BackboneError:
        raise
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise BackboneError(f"{where}: cannot be loaded: {reason}. Copy its folder again.") from error
    return layer.float().eval()


def _check_dense(where: str, spec: LayerSpec) -> None:
    for key in ("module_input_name", "module_output_name"):
        if spec.settings.get(key) not in (None, POOLED):
            raise BackboneError(
                f"{where}: {key} is {spec.settings[key]!r}, which llmrec does not support. Use another checkpoint."
            )
    if unknown := sorted(set(spec.settings) - DENSE_SETTINGS):
        raise BackboneError(f"{where}: setting {unknown[0]!r} is not understood. Use another checkpoint.")


def _read_weights(folder: Path, where: str) -> dict[str, Tensor]:
    safe, pickled = (folder / name for name in WEIGHT_FILES)
    if safe.is_file():
        return load_file(safe)
    if not pickled.is_file():
        raise BackboneError(f"{where}: has neither {' nor '.join(WEIGHT_FILES)}. Copy its folder again.")
    # Restricted to tensors: nothing in the file can run.
    state: dict[str, Tensor] = torch.load(pickled, map_location="cpu", weights_only=True)
    return state


def _make_activation(name: str) -> nn.Module:
    """Return the activation that a checkpoint names, one of torch's own without arguments."""
    module, _, kind = name.rpartition(".")
    home = {"torch.nn.modules.activation": nn.modules.activation, "torch.nn.modules.linear": nn.modules.linear}.get(
        module
    )
    found = getattr(home, kind, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)) or kind not in (
        *nn.modules.activation.__all__,
        "Identity",
    ):
        raise ValueError(f"activation_function {name!r} is not an activation of torch")
    try:
        made: nn.Module = found()
    except TypeError as error:
        raise ValueError(f"activation_function {name!r} needs arguments, which the checkpoint does not have") from error
    return made
