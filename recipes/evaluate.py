"""A saved recommender ranks the test part of a log again, its queries shared among processes.

    accelerate launch --num_processes 2 recipes/evaluate.py --bundle runs/films/bundle --data.source FOLDER

Writes report.json and report.md into the output folder, and prints every metric by slice. The figures are those of one
process, to the same bits, however many share the work.
"""

from llmrec.config.jobs.evaluate import EvaluateConfig
from llmrec.jobs.evaluate import run_evaluate
from llmrec.jobs.runner import run_job

if __name__ == "__main__":
    run_job(run_evaluate, EvaluateConfig)
