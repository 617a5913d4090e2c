"""The best items for every user of a log, written to parquet files, the users shared among processes.

    accelerate launch --num_processes 2 recipes/recommend.py --bundle runs/films/bundle --data.source FOLDER \
        --output runs/films/recommendations

A run that was killed goes on with the parts that are missing, with as many processes as it is given then.
"""

from llmrec.config.jobs.recommend import RecommendConfig
from llmrec.jobs.recommend import run_recommend
from llmrec.jobs.runner import run_job

if __name__ == "__main__":
    run_job(run_recommend, RecommendConfig)
