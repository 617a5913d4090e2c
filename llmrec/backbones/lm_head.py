"""Language-model head of a backbone, from hidden states to logits over the vocabulary.

It is the architecture's own, as transformers builds it for masked or causal language models, with the decoder tied to
the backbone's input embeddings (Press & Wolf 2017, arXiv:1608.05859). A checkpoint saved without a head, as sentence
encoders are, gets a new one: for BERT a dense layer and a norm in front of the embeddings, so that only these are
untrained.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Literal

import torch
from torch import Tensor, nn

from llmrec.backbones.model_files.resolve import WEIGHTS, resolve_backbone
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.errors import BackboneError

LanguageTask = Literal["mlm", "clm"]


class LanguageHead(nn.Module):
    """Language-model head without its backbone.

    Args:
        model: Language model whose backbone is replaced by a pass-through.
        pretrained: Whether the checkpoint has the weights of the head.
    """

    def __init__(self, model: nn.Module, *, pretrained: bool) -> None:
        super().__init__()
        self.model, self.pretrained = model, pretrained

    @classmethod
    def from_backbone(cls, backbone: TextBackbone, task: LanguageTask) -> LanguageHead:
        """Make the head for a backbone whose strategy is not applied yet.

        Args:
            backbone: Backbone.
            task: `mlm` or `clm`.

        Returns:
            The head.

        Raises:
            BackboneError: If `clm` is used with an encoder, or `mlm` with a decoder or without a mask token, or
                transformers
                has no such head for the architecture.
        """
        _check(backbone, task)
        model, missing = _load(backbone, task)
        head_names = [name for name in missing if not name.startswith(f"{model.base_model_prefix}.")]
        setattr(model, model.base_model_prefix, backbone.model)
        decoder, embeddings = model.get_output_embeddings(), backbone.model.get_input_embeddings()  # type: ignore[operator]
        if decoder is not None and (model.config.tie_word_embeddings or head_names):
            decoder.weight = embeddings.weight
        setattr(model, model.base_model_prefix, _PassThrough())
        return cls(model.eval(), pretrained=not head_names)

    def describe_origin(self) -> str:
        """Describe the origin of the head's weights.

        Returns:
            One line.
        """
        if self.pretrained:
            return "language-model head: the checkpoint's own"
        return "language-model head: new, with the backbone's input embeddings as decoder; the checkpoint has none"

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute logits over the vocabulary.

        Args:
            hidden: Hidden states, (M, D).

        Returns:
            Logits, (M, V).
        """
        logits: Tensor = self.model(inputs_embeds=hidden[None]).logits[0]
        return logits


def make_head(backbone: TextBackbone, objectives: Container[str]) -> LanguageHead | None:
    """Make the head that one of the objectives needs.

    Args:
        backbone: Backbone whose strategy is not applied yet.
        objectives: Names of the objectives.

    Returns:
        The head, or None if no objective needs one.

    Raises:
        BackboneError: If the backbone cannot have such a head.
    """
    tasks: dict[str, LanguageTask] = {"mlm": "mlm", "clm": "clm", "histories": "clm"}
    return next(
        (LanguageHead.from_backbone(backbone, task) for name, task in tasks.items() if name in objectives), None
    )


class _PassThrough(nn.Module):
    """Replacement of the backbone in a language model that passes hidden states on."""

    def forward(self, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None, **_: Any) -> Any:
        """Return the hidden states as a backbone would.

        Args:
            input_ids: Ignored.
            inputs_embeds: Hidden states, (1, M, D).
            **_: Ignored.

        Returns:
            Output of a backbone with these states.
        """
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=inputs_embeds)


def _check(backbone: TextBackbone, task: LanguageTask) -> None:
    kind = type(backbone.model).__name__
    if task == "mlm" and backbone.causal:
        raise BackboneError(
            f"objectives.mlm: {kind} is a decoder, which reads from left to right. Use clm or contrast."
        )
    if task == "clm" and not backbone.causal:
        raise BackboneError(
            f"objectives.clm, histories: {kind} is an encoder, which sees later words. Use mlm or contrast."
        )
    if task == "mlm" and backbone.tokenizer.mask_token is None:
        raise BackboneError(f"objectives.mlm: the tokenizer of {backbone.hub_id} has no mask token. Use contrast.")


def _load(backbone: TextBackbone, task: LanguageTask) -> tuple[Any, list[str]]:
    """Load the language model of the backbone's checkpoint, and return the names of missing weights."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM
    from transformers.utils import logging as transformers_logging

    auto: Any = AutoModelForMaskedLM if task == "mlm" else AutoModelForCausalLM
    path = resolve_backbone(backbone.config.name, backbone.config.hub_id).path
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # the caller reports missing heads
    try:
        model, info = auto.from_pretrained(
            path, revision=backbone.config.revision, dtype=torch.float32, output_loading_info=True, **WEIGHTS
        )
    except (OSError, ValueError, KeyError) as error:
        raise BackboneError(
            f"objectives.{task}: {type(backbone.model).__name__} has no such head ({error}). Use another objective."
        ) from error
    finally:
        transformers_logging.set_verbosity(level)
    return model, sorted(info["missing_keys"])
