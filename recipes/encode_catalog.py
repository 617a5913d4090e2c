"""Every text of a catalog is read once, by as many processes as there are, before its vector is needed.

    accelerate launch --num_processes 2 recipes/encode_catalog.py --data.items ITEMS.parquet \
        --data.text_template "{title}. Category: {category}" --backbone.name packaged:all-MiniLM-L6-v2

Vectors go to the cache (LLMREC_CACHE, or ~/.cache/llmrec), by text and backbone: fine-tuning with the same `data` and
`backbone` finds them there. A run that was killed goes on where it was, with as many processes as it is given then.
"""

from llmrec.config.jobs.encode_catalog import EncodeConfig
from llmrec.jobs.encode_catalog import run_encode_catalog
from llmrec.jobs.runner import run_job

if __name__ == "__main__":
    run_job(run_encode_catalog, EncodeConfig)
