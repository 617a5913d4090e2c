"""What reading item text costs: texts per CPU second of several backbones, on one thread.

    OMP_NUM_THREADS=1 python scripts/bench/reading.py --data.source FOLDER [--backbones NAMES] [--texts 500]

Rounds alternate between the backbones and CPU time is counted, so that other work on the machine counts little.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import jsonargparse
import torch

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.data.loading import load_log

NAMES = ("packaged:all-MiniLM-L6-v2", "packaged:SmolLM2-135M-Instruct")
ROUNDS = 3


def main(data: DataConfig, backbones: tuple[str, ...] = NAMES, texts: int = 500, max_tokens: int = 64) -> None:
    torch.set_num_threads(1)
    titles = load_log(data).catalog.list_texts()
    titles = titles[:: max(len(titles) // texts, 1)][:texts]
    loaded = {name: TextBackbone.load(BackboneConfig(name, max_tokens=max_tokens)) for name in backbones}
    for backbone in loaded.values():
        cpu_seconds(backbone, titles[:50])  # warms up
    spent = {name: [] for name in loaded}
    for _ in range(ROUNDS):
        for name, backbone in loaded.items():
            spent[name].append(cpu_seconds(backbone, titles))
    for name, backbone in loaded.items():
        seconds, tokens = statistics.median(spent[name]), len(backbone.tokenize(titles).flat)
        size = sum(parameter.numel() for parameter in backbone.model.parameters())
        print(
            f"{name:<34} {size / 1e6:6.1f} M parameters {tokens / len(titles):5.1f} tokens a text "
            f"{seconds:7.2f} CPU s {len(titles) / seconds:8.1f} texts/s"
        )


def cpu_seconds(backbone: TextBackbone, texts: Sequence[str]) -> float:
    began = time.process_time()
    backbone.encode(backbone.tokenize(texts))
    return time.process_time() - began


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
