"""Choose the space in which a model compares texts and starts its text adaptor, by ranking the validation queries."""

from __future__ import annotations

import logging

from torch import Tensor

from llmrec.config.model import ModelConfig
from llmrec.data.splits import Split
from llmrec.evaluation.baselines.mapped_text import RIDGES, MappedText, MappedTextSettings, compute_text_moments
from llmrec.evaluation.baselines.nearest_text import NearestText
from llmrec.evaluation.metrics import ndcg_at
from llmrec.evaluation.ranking import sample_queries
from llmrec.models.spectral_map import SpectralMap
from llmrec.training.distributed.parallel_ranking import rank_in_parallel
from llmrec.training.task import TrainingTask

logger = logging.getLogger(__name__)
MOST_QUERIES = 2000  # of a comparison
ITEMS_PER_DIMENSION = 2  # with events, below which `auto` does not trust the covariances of texts


def choose_ridge(name: str, task: TrainingTask, config: ModelConfig, text: Tensor | None) -> float | None:
    """Choose the ridge of the spectral map by which nearest text ranks the validation queries best.

    Args:
        name: Name of the fit in logs.
        task: Training task with the validation queries.
        config: Settings of the model.
        text: Text vectors of the catalog, (N, D_text); None for ids alone.

    Returns:
        The ridge; None for no map: as the settings say, with privacy, without neighboring events, or for `auto` if
        there are too few items for the width of texts, or texts as they are rank no worse.
    """
    if text is None or config.adaptor_start not in ("auto", "spectral") or task.privacy or not len(task.valid):
        return None
    n_known = int((~task.split.cold_item_mask()).sum())
    if config.adaptor_start == "auto" and n_known < ITEMS_PER_DIMENSION * text.shape[1]:
        return None
    moments = compute_text_moments(task.split, text)
    if moments is None:
        return None
    maker = MappedText(text.cpu(), moments)
    found = {ridge: _measure(task, maker.fit(MappedTextSettings(ridge=ridge))) for ridge in RIDGES}
    plain = _measure(task, NearestText.fit(maker.text.numpy()))
    best = max(found, key=lambda ridge: found[ridge])
    is_used = config.adaptor_start == "spectral" or found[best] > plain
    facts = {"fit": name, "nearest_text": plain, "nearest_text_map": found[best], "ridge": best, "spectral": is_used}
    logger.info(
        "%s: nearest text %.4f, by the spectral map %.4f (valid ndcg@10): %s",
        name,
        plain,
        found[best],
        "map used" if is_used else "no map",
        extra={"facts": facts},
    )
    return best if is_used else None


def fit_spectral_map(split: Split, text: Tensor | None, ridge: float | None) -> SpectralMap | None:
    """Fit the spectral map of a training part.

    Args:
        split: Split whose training part is used.
        text: Text vectors of the catalog, (N, D_text); None for ids alone.
        ridge: Ridge of `choose_ridge`; None for no map.

    Returns:
        The map, if there is one.
    """
    moments = None if text is None or ridge is None else compute_text_moments(split, text)
    return None if moments is None or ridge is None else SpectralMap.fit([moments], ridge=ridge)


def _measure(task: TrainingTask, scorer: NearestText) -> float:
    queries = sample_queries(task.valid, MOST_QUERIES)
    ranking = rank_in_parallel(
        scorer,
        queries,
        task.split.n_items,
        task.accelerator,
        n_top=0,
        mask_seen=task.mask_seen,
        available=task.release_time,
    )
    return float(ndcg_at(ranking.rank, 10).mean())
