"""A pretrained decoder, without any training, re-ranks candidates by how likely it finds their text after the history.

    accelerate launch recipes/rerank.py --config recipes/rerank.yaml --data.source FOLDER

The control for everything that is trained: what a language model knows by itself. Writes report.json and report.md into
the output folder, and prints the table and what it cost.
"""

from llmrec.config.jobs.rerank import RerankConfig
from llmrec.jobs.rerank import run_rerank
from llmrec.jobs.runner import run_job

if __name__ == "__main__":
    run_job(run_rerank, RerankConfig)
