"""From one or several domains to another: what knowing them is worth there, four ways, and which of these to use.

    accelerate launch recipes/transfer.py --config recipes/transfer.yaml --data.source TARGET \
        --sources '[{source: SOURCE, order_column: seq_pos}]'

Writes report.json, report.md, figures/ and bundle/ into the output folder, and prints the table and a verdict.
"""

from llmrec.config.jobs.transfer import TransferConfig
from llmrec.jobs.runner import run_job
from llmrec.jobs.transfer import run_transfer

if __name__ == "__main__":
    run_job(run_transfer, TransferConfig)
