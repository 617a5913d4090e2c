"""Encode the texts of a catalog into the cache, with all processes, before a run needs their vectors."""

from __future__ import annotations

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.text_vector_cache import TextVectorCache
from llmrec.config.jobs.encode_catalog import EncodeConfig
from llmrec.data.loading import load_catalog
from llmrec.engines.accelerator import all_reduce_sum
from llmrec.runs.start import join_run
from llmrec.utils.timing import timer


def run_encode_catalog(config: EncodeConfig) -> None:
    """Encode the texts of a catalog into the cache.

    Args:
        config: Settings of the job.
    """
    accelerator = join_run()
    texts = load_catalog(config.data).text_array
    with accelerator.main_process_first():  # the main process downloads it if necessary
        backbone = TextBackbone.load(config.backbone).requires_grad_(requires_grad=False).to(accelerator.device)
    cache = TextVectorCache(backbone, accelerator=accelerator, shard_texts=config.texts_per_shard)

    with timer.section("read") as spent:
        filled = cache.fill(texts)
        n_read = all_reduce_sum(filled.n_read, accelerator)
    accelerator.print(
        f"{len(texts):,} items with {filled.n_texts:,} texts: {n_read:,} read by {accelerator.num_processes} "
        f"process(es) in {spent.wall:,.0f} s, {n_read / spent.wall:,.0f} items/s; the others were there\n{cache.folder}"
    )
    accelerator.end_training()
