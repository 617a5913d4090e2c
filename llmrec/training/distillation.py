"""Knowledge transfer: a smaller backbone learns to read, and to rank, as a trained recommender does.

The student begins with the teacher's own layers above the backbone. A step reads some items through the student's
backbone; their vectors, and what the histories of the batch say of these items, are held against the teacher's.
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
from llmrec.training.objectives import Objective, encode_trainable_items
from llmrec.training.task import TrainingTask
from llmrec.training.two_stage import make_model, train, validation_ndcg

COST_TEXTS, COST_ROUNDS = 256, 3


class DistillationObjective(Objective):
    """Sum over a batch's targets of what the student does otherwise than the teacher.

    taught_text, taught_items: (N, D_text) and (N, D) of the teacher.
    """

    taught_text: Tensor
    taught_items: Tensor

    def __init__(
        self, model: RecommenderModel, reader: CatalogEncoder, teacher: RecommenderModel, losses: DistillationLosses
    ) -> None:
        super().__init__()
        self.model, self.reader, self.backbone, self.losses = model, reader, reader.backbone, losses
        self.teacher = teacher.requires_grad_(False)
        self._freeze_teacher()
        text = teacher.items.text
        if text is None:
            raise ValueError("a teacher on ids alone has no vectors of texts to learn from")
        self.register_buffer("taught_text", text, persistent=False)
        with torch.no_grad():
            self.register_buffer("taught_items", self.teacher.items(), persistent=False)
        width = reader.backbone.dim
        self.project = nn.Linear(width, text.shape[1], bias=False) if width != text.shape[1] else nn.Identity()

    def train(self, mode: bool = True) -> DistillationObjective:
        super().train(mode)
        self._freeze_teacher()
        return self

    def _freeze_teacher(self) -> None:
        """It answers without dropout, and by what it has learned alone: text match the student has as well."""
        self.teacher.eval()
        if self.teacher.items.match is not None:
            self.teacher.items.match.train()

    def forward(self, batch: HistoryBatch, live_rows: Tensor | None, negatives: Tensor | None) -> Tensor:
        """live_rows: (R,) catalog rows that are read. negatives: (S,) rows whose scores are compared as well as theirs;
        None: those of all items are.
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
        ours = self.model.score(states, items[rows], known[rows])  # (M, C)
        with torch.no_grad():
            teacher, wanted = self.teacher, self.taught_items
            theirs = teacher.score(
                teacher.encode_histories(wanted, batch), teacher.scoring_vectors(wanted)[rows], known[rows]
            )
        total = losses.embedding * n_targets * embedding_loss(self.project(text), self.taught_text[live_rows])
        if losses.scores:
            total = total + losses.scores * score_loss(ours, theirs, losses.temperature)
        if losses.ranking:
            total = total + losses.ranking * ranking_loss(ours, theirs, losses.top_k)
        if losses.targets:
            total = total + losses.targets * target_loss(ours, rows, batch.target)
        return total


def embedding_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """(R, D) each -> mean of 1 - cosine."""
    return (1 - functional.cosine_similarity(student, teacher.to(student), dim=1)).mean()


def score_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Scores (M, C) each -> sum over M of KL(teacher || student) of their softmax at `temperature`, times its square.

    >>> one = torch.tensor([[0.0, 0.0]])
    >>> round(float(score_loss(one, torch.tensor([[1.0986, 0.0]]), 1.0)), 4)  # .75 log(.75 / .5) + .25 log(.25 / .5)
    0.1308
    """
    ours, theirs = (scores / temperature for scores in (student, teacher))
    divergence = functional.kl_div(ours.log_softmax(1), theirs.log_softmax(1), reduction="sum", log_target=True)
    return divergence * temperature**2


def ranking_loss(student: Tensor, teacher: Tensor, top: int) -> Tensor:
    """Scores (M, C) each -> minus log chance to come next, of the teacher's `top` items in its order: their mean,
    summed over M.

    Plackett and Luce's model: the next item is drawn in proportion to exp(score) among those that are left.

    >>> student, teacher = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[3.0, 2.0, 1.0]])
    >>> round(float(ranking_loss(student, teacher, 2)), 4)  # (log 3 + log 2) / 2
    0.8959
    """
    order = teacher.argsort(dim=1, descending=True)
    scores = student.gather(1, order)  # (M, C) in the teacher's order
    left = scores.flip(1).logcumsumexp(1).flip(1)  # of the items from each place on
    return (left - scores)[:, :top].mean(1).sum()


def target_loss(student: Tensor, rows: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the targets (M,) that are among the items compared, `rows` (C,), increasing: the sum of them."""
    place = torch.searchsorted(rows, target).clamp(max=len(rows) - 1)
    asked = rows[place] == target
    return functional.cross_entropy(student[asked], place[asked], reduction="sum")


def distill(
    task: TrainingTask,
    config: FinetuneConfig,
    teacher: RecommenderModel,
    reader: CatalogEncoder,
    losses: DistillationLosses,
    seed: int,
) -> tuple[RecommenderModel, Progress]:
    """The student's model with its text table by the reader's backbone, which is trained in place.

    It knows the items that its teacher knew, and learns from the histories of the training part. Validation NDCG@10
    chooses between the measurements.
    """
    if config.adapt.negatives == "full" and len(reader.tokens) > FULL_ITEMS:
        raise ConfigError(
            f"train.negatives=full: a step would compare the scores of {len(reader.tokens):,} items for each target; "
            "give a number, such as 4096"
        )
    text = encode_catalog(reader, task.accelerator)
    model = make_model(task.split.merge_validation() if config.train.refit else task.split, config.model, text, seed)
    model.copy_calibration(teacher)
    known = TransferWeights.from_model(teacher)
    same_width = teacher.items.text is not None and teacher.items.text.shape[1] == text.shape[1]
    weights = {n: weight for n, weight in known.weights.items() if same_width or not n.startswith(FEATURES)}
    load_transfer_weights(model, TransferWeights(weights))
    if model.items.ids is not None and teacher.items.ids is not None:
        model.items.ids.load_state_dict(teacher.items.ids.state_dict())  # the same items
    objective = DistillationObjective(model, reader, teacher, losses)
    inputs = f"{task.inputs} {known.fingerprint()} {losses}"
    task = replace(task, inputs=inputs)

    def validate() -> float:
        return validation_ndcg(task, ModelScorer(model))

    return model, train(STUDENT.name, task, objective, config.adapt, seed, validate, start=validate())


def encode_cost(student: TextBackbone, teacher: TextBackbone, texts: Sequence[str]) -> float:
    """CPU seconds that the student takes to read texts, in proportion to the teacher's: the median of some rounds."""
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
    """What the student is worth, in words. cost: of reading, in proportion to the teacher's."""
    values = {row.model: row.value for row in evaluated.rows if (row.slice, row.metric) == ("overall", metric)}
    kept = values[STUDENT] / max(values[TEACHER], 1e-12)
    return (
        f"the student keeps {kept:.1%} of the teacher's {metric} on the test, and reads at {cost:.2f} of its CPU time"
    )
