"""Continued pretraining: a backbone reads a domain's texts, and what its users touch together, before fine-tuning.

    accelerate launch recipes/pretrain.py --config recipes/pretrain/amazon14_beauty_contrast.yaml --data.source FOLDER
    accelerate launch recipes/finetune.py --config recipes/finetune/amazon14_beauty.yaml --data.source FOLDER \
        --backbone.name runs/pretrain_amazon14_beauty_contrast/backbone --backbone.hub_id OWNER/NAME

Only events in the training part of every split that is named are looked at, and only texts of items that have such
events, unless `all_items` is set. Give fine-tuning the same split, or its test is no test.

Writes backbone/ into the output folder, with pretraining.json in it, and prints held-out losses.
"""

from llmrec.config.jobs.pretrain import PretrainConfig
from llmrec.jobs.pretrain import run_pretrain
from llmrec.jobs.runner import run_job

if __name__ == "__main__":
    run_job(run_pretrain, PretrainConfig)
