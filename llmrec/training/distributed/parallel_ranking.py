"""Queries shared among the processes of a run.

In whole batches, so that every score is computed as one process would have computed it, to the same bits: a product of
other rows at once may be rounded otherwise, and near-ties would change places.
"""

from __future__ import annotations

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from llmrec.data.histories import Queries
from llmrec.evaluation.ranking import BATCH, Ranking, Scorer, query_batch_size, rank_queries
from llmrec.utils.arrays import Rows


def take_own_queries(queries: Queries, accelerator: Accelerator, batch_size: int = BATCH) -> Queries:
    """This process's batches, which follow on those of the process before it."""
    n_batches = -(-len(queries) // batch_size)
    bounds = batch_size * np.linspace(0, n_batches, accelerator.num_processes + 1).astype(int)
    return queries.take(slice(*bounds[accelerator.process_index :][:2]))


def rank_in_parallel(
    scorer: Scorer,
    queries: Queries,
    n_items: int,
    accelerator: Accelerator | None,
    n_top: int = 20,
    mask_seen: bool = True,
    available: Rows | None = None,
    progress: str | None = None,
) -> Ranking:
    """`rank_queries`, each process its share; every process gets the whole ranking, in order."""
    shared = accelerator is not None and accelerator.num_processes > 1
    batch_size = query_batch_size(n_items)
    mine = take_own_queries(queries, accelerator, batch_size) if accelerator and shared else queries
    shown = progress if accelerator is None or accelerator.is_local_main_process else None
    ranking = rank_queries(scorer, mine, n_top, mask_seen, batch_size, available, shown)
    if not shared:
        return ranking
    parts = [part for part in gather_object([(ranking.rank, ranking.top)]) if len(part[0])]
    return Ranking(*map(np.concatenate, zip(*parts, strict=True))) if parts else ranking
