"""From a trained bundle to a smaller one that recommends nearly as well and reads text at a fraction of the cost.

    accelerate launch recipes/distill.py --config recipes/distill.yaml --teacher runs/quickstart/bundle

Writes report.json, report.md, figures/ and bundle/ into the output folder, and prints the table, what the student keeps
of the teacher's quality, and what reading costs it.
"""

from llmrec.config.jobs.distill import DistillConfig
from llmrec.jobs.distill import run_distill
from llmrec.jobs.runner import run_job

if __name__ == "__main__":
    run_job(run_distill, DistillConfig)
