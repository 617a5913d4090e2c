"""The best items for every user of a log, written to parquet files, the users shared among processes.

    accelerate launch --num_processes 2 recipes/recommend.py --bundle runs/mine/bundle --data.source FOLDER \
        --output runs/mine/recommendations

A run that was killed goes on with the parts that are missing, with as many processes as it is given then.
"""

from __future__ import annotations

import time

from llmrec.config.jobs.recommend import RecommendConfig
from llmrec.engines.accelerator import all_reduce_sum
from llmrec.jobs.recommend import recommend_all_users
from llmrec.jobs.runner import run_job
from llmrec.recommender import Recommender, load_training_log
from llmrec.runs.start import join_run


def main(config: RecommendConfig) -> None:
    accelerator = join_run()
    recommender = Recommender.from_pretrained(config.bundle, config.backbone, accelerator.device)
    log = load_training_log(recommender, config.data)

    began = time.monotonic()
    n_users = all_reduce_sum(recommend_all_users(recommender, log, config, accelerator), accelerator)
    seconds = time.monotonic() - began
    accelerator.print(
        f"{n_users:,} users by {accelerator.num_processes} process(es) in {seconds:,.0f} s, "
        f"{n_users / seconds:,.0f} users/s; the others were there\n{config.output}"
    )
    accelerator.end_training()


if __name__ == "__main__":
    run_job(main, RecommendConfig)
