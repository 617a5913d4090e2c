"""Knowledge distillation: train a smaller backbone to encode texts and rank items as a trained recommender does.

The student starts with the layers of the teacher above the backbone. A step encodes some items with the backbone of
the student; their vectors, and the scores that the histories of the batch give them, are compared with the teacher's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.jobs.distill import DistillationLosses
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.data.batches import HistoryBatch
from llmrec.errors import ConfigError
from llmrec.evaluation.model_rows import STUDENT, TEACHER
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.evaluation.results import SplitReport
from llmrec.models.losses import FULL_ITEMS
from llmrec.models.recommender_model import RecommenderModel
from llmrec.models.weight_transfer import FEATURES, TransferWeights, load_transfer_weights
from llmrec.training.checkpoints import Progress
from llmrec.training.distributed.collectives import encode_catalog
from llmrec.training.model_validation import validation_ndcg
from llmrec.training.objectives import Objective, encode_trainable_items
from llmrec.training.spectral_start import choose_ridge
from llmrec.training.task import TrainingTask
from llmrec.training.two_stage import make_model, train

COST_TEXTS, COST_ROUNDS = 256, 3


class DistillationObjective(Objective):
    """Sum over the targets of a batch of the differences between student and teacher."""

    taught_text: Tensor
    """Text vectors of the teacher, (N, D_text)."""
    taught_items: Tensor
    """Item vectors of the teacher, (N, D)."""

    def __init__(
        self, model: RecommenderModel, reader: CatalogEncoder, teacher: RecommenderModel, losses: DistillationLosses
    ) -> None:
        super().__init__()
        self.model, self.reader, self.backbone, self.losses = model, reader, reader.backbone, losses
        self.teacher = teacher.requires_grad_(requires_grad=False)
        self._freeze_teacher()
        text = teacher.items.text
        if text is None:
            raise ValueError("a teacher on ids alone has no vectors of texts to learn from")
        self.register_buffer("taught_text", text, persistent=False)
        with torch.no_grad():
            self.register_buffer("taught_items", self.teacher.items(), persistent=False)
        width = reader.backbone.dim
        self.project = nn.Linear(width, text.shape[1], bias=False) if width != text.shape[1] else nn.Identity()

    def train(self, mode: bool = True) -> DistillationObjective:  # noqa: FBT001, FBT002 as in torch
        """Set the training mode of the student; the teacher stays frozen.

        Args:
            mode: True for training, False for evaluation.

        Returns:
            This module.
        """
        super().train(mode)
        self._freeze_teacher()
        return self

    def _freeze_teacher(self) -> None:
        """Disable dropout and text similarity in the teacher; the student has the same text similarity."""
        self.teacher.eval()
        if self.teacher.items.match is not None:
            self.teacher.items.match.train()

    def forward(self, batch: HistoryBatch, live_rows: Tensor | None, negatives: Tensor | None) -> Tensor:
        """Compute the weighted sum of the distillation losses of a batch.

        Args:
            batch: Histories and targets.
            live_rows: Catalog rows to encode, (R,).
            negatives: Catalog rows whose scores are compared as well, (S,); None compares all items.

        Returns:
            The loss, a scalar summed over targets.

        Raises:
            ValueError: If there are no rows to encode or no reader.
        """
        if live_rows is None or self.reader is None:
            raise ValueError("distillation needs rows to read, and a reader")
        losses, n_targets = self.losses, len(batch.target)
        text = encode_trainable_items(self.model, self.reader, live_rows)  # (R, D_text)
        known = self.model.items.known
        rows = torch.arange(len(known), device=known.device)
        if negatives is not None:
            rows = torch.unique(torch.cat([live_rows, negatives]))  # (C,)
        states, items = self.model(batch, None, live_rows, text)
        student_scores = self.model.score(states, items[rows], known[rows])  # (M, C)
        with torch.no_grad():
            teacher, wanted = self.teacher, self.taught_items
            teacher_scores = teacher.score(
                teacher.encode_histories(wanted, batch), teacher.scoring_vectors(wanted)[rows], known[rows]
            )
        total = losses.embedding * n_targets * embedding_loss(self.project(text), self.taught_text[live_rows])
        if losses.scores:
            total = total + losses.scores * score_loss(student_scores, teacher_scores, losses.temperature)
        if losses.ranking:
            total = total + losses.ranking * ranking_loss(student_scores, teacher_scores, losses.top_k)
        if losses.targets:
            total = total + losses.targets * target_loss(student_scores, rows, batch.target)
        return total


def embedding_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the mean of 1 - cosine between the vectors of student and teacher.

    Args:
        student: Vectors, (R, D).
        teacher: Vectors, (R, D).

    Returns:
        A scalar.
    """
    return (1 - functional.cosine_similarity(student, teacher.to(student), dim=1)).mean()


def score_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute KL(teacher || student) of softmax scores at a temperature, times its square.

    Args:
        student: Scores, (M, C).
        teacher: Scores, (M, C).
        temperature: Divides the scores.

    Returns:
        The sum over M, a scalar.

    Example:
        >>> one = torch.tensor([[0.0, 0.0]])
        >>> round(float(score_loss(one, torch.tensor([[1.0986, 0.0]]), 1.0)), 4)  # .75 log 1.5 + .25 log .5
        0.1308
    """
    student, teacher = (scores / temperature for scores in (student, teacher))
    divergence = functional.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="sum", log_target=True)
    return divergence * temperature**2


def ranking_loss(student: Tensor, teacher: Tensor, top: int) -> Tensor:
    """Compute the negative log-likelihood of the top items of the teacher in the order of the teacher.

    In the model of Plackett and Luce the next item is drawn in proportion to exp(score) among those that are left.

    Args:
        student: Scores, (M, C).
        teacher: Scores, (M, C).
        top: Items per target that count.

    Returns:
        The mean over top items, summed over M, a scalar.

    Example:
        >>> student, teacher = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[3.0, 2.0, 1.0]])
        >>> round(float(ranking_loss(student, teacher, 2)), 4)  # (log 3 + log 2) / 2
        0.8959
    """
    order = teacher.argsort(dim=1, descending=True)
    scores = student.gather(1, order)  # (M, C) in the teacher's order
    left = scores.flip(1).logcumsumexp(1).flip(1)  # of the items from each place on
    return (left - scores)[:, :top].mean(1).sum()


def target_loss(student: Tensor, rows: Tensor, target: Tensor) -> Tensor:
    """Compute the cross-entropy of the targets that are among the compared items.

    Args:
        student: Scores, (M, C).
        rows: Catalog rows of the compared items in increasing order, (C,).
        target: Catalog rows of the targets, (M,).

    Returns:
        The sum over those targets, a scalar.
    """
    place = torch.searchsorted(rows, target).clamp(max=len(rows) - 1)
    present = rows[place] == target
    return functional.cross_entropy(student[present], place[present], reduction="sum")


def distill(
    task: TrainingTask,
    config: FinetuneConfig,
    teacher: RecommenderModel,
    reader: CatalogEncoder,
    *,
    losses: DistillationLosses,
    seed: int,
) -> tuple[RecommenderModel, Progress]:
    """Train a student model and its backbone on the training part; validation chooses the weights.

    The student knows the items that its teacher knew.

    Args:
        task: Training task with the split.
        config: Settings of the student.
        teacher: Trained model to learn from.
        reader: Encoder of the catalog; its backbone is trained in place.
        losses: Weights of the losses.
        seed: Seed of the fit.

    Returns:
        The student with the text vectors of its backbone, and the progress of its training.

    Raises:
        ConfigError: If all items would be compared and the catalog is too large for that.
    """
    if config.adapt.negatives == "full" and len(reader.tokens) > FULL_ITEMS:
        raise ConfigError(
            f"train.negatives=full: a step would compare the scores of {len(reader.tokens):,} items for each target; "
            "give a number, such as 4096"
        )
    text = encode_catalog(reader, task.accelerator)
    same_width = teacher.items.text is not None and teacher.items.text.shape[1] == text.shape[1]
    ridge = None if same_width else choose_ridge(STUDENT.name, task, config.model, text)
    split = task.split.merge_validation() if config.train.refit else task.split
    model = make_model(split, config.model, text, seed, ridge=ridge)
    model.copy_calibration(teacher)
    known = TransferWeights.from_model(teacher)
    weights = {n: weight for n, weight in known.weights.items() if same_width or not n.startswith(FEATURES)}
    load_transfer_weights(model, TransferWeights(weights))
    if model.items.ids is not None and teacher.items.ids is not None:
        model.items.ids.load_state_dict(teacher.items.ids.state_dict())  # the same items
    objective = DistillationObjective(model, reader, teacher, losses)
    inputs = f"{task.inputs} {known.fingerprint()} {losses}"
    task = replace(task, inputs=inputs)

    def validate() -> float:
        return validation_ndcg(task, ModelScorer(model))

    return model, train(STUDENT.name, task, objective, config.adapt, seed=seed, validate=validate, start=validate())


def encode_cost(student: TextBackbone, teacher: TextBackbone, texts: Sequence[str]) -> float:
    """Measure the CPU time of the student for encoding texts, relative to the teacher.

    Args:
        student: Backbone of the student.
        teacher: Backbone of the teacher.
        texts: Texts to sample from.

    Returns:
        The median ratio over some rounds.
    """
    texts = texts[:: max(len(texts) // COST_TEXTS, 1)][:COST_TEXTS]
    ratios = []
    for _ in range(COST_ROUNDS + 1):  # the first one warms up
        spent = []
        for backbone in (student, teacher):
            tokens, began = backbone.tokenize(texts), time.process_time()
            backbone.encode(tokens)
            spent.append(time.process_time() - began)
        ratios.append(spent[0] / max(spent[1], 1e-9))
    return statistics.median(ratios[1:])


def describe_student(evaluated: SplitReport, metric: str, cost: float) -> str:
    """Describe how much of the teacher's quality the student keeps, and at what cost.

    Args:
        evaluated: Results on the test.
        metric: Metric to compare.
        cost: CPU time for encoding, relative to the teacher.

    Returns:
        One sentence.
    """
    values = {row.model: row.value for row in evaluated.rows if (row.slice, row.metric) == ("overall", metric)}
    kept = values[STUDENT] / max(values[TEACHER], 1e-12)
    return (
        f"the student keeps {kept:.1%} of the teacher's {metric} on the test, and reads at {cost:.2f} of its CPU time"
    )
