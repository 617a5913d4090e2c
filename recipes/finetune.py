"""From an interaction log to a fine-tuned, evaluated, usable recommender.

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/finetune.py \
        --config recipes/finetune/quickstart.yaml --train.learning_rate 2e-3

Writes report.json, report.md, figures/ and bundle/ into the output folder, and prints the tables.
"""

from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.jobs.finetune import run_finetune
from llmrec.jobs.runner import run_job

if __name__ == "__main__":
    run_job(run_finetune, FinetuneConfig)
