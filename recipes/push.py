"""From a bundle on disk to a repository on the Hugging Face hub, and the proof that what comes back is the same.

    hf auth login
    python recipes/push.py --bundle runs/quickstart/bundle --repo_id OWNER/NAME --revision v1

One commit, private unless `--private false`. What was pushed is fetched again and checked against its own record. It
then gets the counts of users' events, which are not pushed, and scores the same histories as the bundle here; the
largest difference of the scores is printed.
"""

from llmrec.config.jobs.push import PushConfig
from llmrec.jobs.push import run_push
from llmrec.jobs.runner import run_job

if __name__ == "__main__":
    run_job(run_push, PushConfig)
