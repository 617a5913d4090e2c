"""Divide queries among the processes of a run.

Processes take whole batches, so that every score has the same bits as in one process: a product with other rows may be
rounded differently, and near-ties would change places.
"""

from __future__ import annotations

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from llmrec.data.histories import Queries
from llmrec.evaluation.ranking import BATCH, Ranking, Scorer, query_batch_size, rank_queries
from llmrec.utils.arrays import Mask, Rows


def take_own_queries(queries: Queries, accelerator: Accelerator, *, batch_size: int = BATCH) -> Queries:
    """Return the batches of this process, contiguous and in order.

    Args:
        queries: All queries.
        accelerator: Processes that share the work.
        batch_size: Queries per batch.

    Returns:
        The queries of this process.
    """
    n_batches = -(-len(queries) // batch_size)
    bounds = batch_size * np.linspace(0, n_batches, accelerator.num_processes + 1).astype(int)
    return queries.take(slice(*bounds[accelerator.process_index :][:2]))


def rank_in_parallel(
    scorer: Scorer,
    queries: Queries,
    n_items: int,
    accelerator: Accelerator | None,
    *,
    n_top: int = 20,
    mask_seen: bool = True,
    available: Rows | None = None,
    pool: Mask | None = None,
    progress: str | None = None,
) -> Ranking:
    """Rank all queries as `rank_queries` does, divided among the processes.

    Args:
        scorer: Scorer of the queries.
        queries: The Q queries.
        n_items: Items of the catalog.
        accelerator: Processes that share the work; None for this process alone.
        n_top: Top items to return per query.
        mask_seen: True to exclude items that a user has seen.
        available: Release times in seconds, (N,); items released after a query are excluded.
        pool: Items among which targets in it are also ranked by themselves, (N,); None for none.
        progress: Title of the progress bar; None for no bar.

    Returns:
        The whole ranking in the order of the queries, in every process.
    """
    shared = accelerator is not None and accelerator.num_processes > 1
    batch_size = query_batch_size(n_items)
    own = take_own_queries(queries, accelerator, batch_size=batch_size) if accelerator and shared else queries
    shown = progress if accelerator is None or accelerator.is_local_main_process else None
    ranking = rank_queries(
        scorer,
        own,
        n_top=n_top,
        mask_seen=mask_seen,
        batch_size=batch_size,
        available=available,
        pool=pool,
        progress=shown,
    )
    if not shared:
        return ranking
    parts = [part for part in gather_object([(ranking.rank, ranking.top, ranking.in_pool)]) if len(part[0])]
    if not parts:
        return ranking
    rank, top, in_pool = zip(*parts, strict=True)
    return Ranking(np.concatenate(rank), np.concatenate(top), None if pool is None else np.concatenate(in_pool))
