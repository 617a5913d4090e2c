"""What each transfer strategy costs on a catalog: weights that train, memory, time of an epoch, time of reading.

    OMP_NUM_THREADS=1 python scripts/bench/strategies.py --data.source FOLDER [--data.order_column NAME]
        [--backbones '[packaged:all-MiniLM-L6-v2]'] [--lora.last_k 2] [--steps 8] [--live_items 256] [--json PATH]

Each strategy trains for some steps in a process of its own, whose peak memory is its own too. Times are CPU time of one
thread; an epoch's is its number of steps times a step's. What the layers below those that train make of the catalog is
kept (LLMREC_CACHE); making it is not in these times, and costs about as much as reading the catalog once. Stored text
vectors are random: they cost what real ones cost.
"""

from __future__ import annotations

import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import jsonargparse
import numpy as np
import torch
from accelerate import Accelerator
from machine import describe, write_record

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig, LoraConfig, Strategy
from llmrec.config.data import DataConfig
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.batches import build_training_windows
from llmrec.data.histories import make_queries
from llmrec.data.loading import load_log
from llmrec.data.splits import VALID, split_by_time
from llmrec.training.objectives import RecommendationObjective
from llmrec.training.task import TrainingTask
from llmrec.training.two_stage import make_model, train
from llmrec.utils.text import format_table

ALL_LAYERS = LoraConfig()
READ_TEXTS = 512  # that are read to tell what reading the catalog takes


@dataclass(frozen=True)
class Cost:
    """trains: parameters of the backbone. peak_mib: of the whole process, log and catalog included."""

    backbone: str
    strategy: str
    trains: int
    peak_mib: float
    step_s: float
    epoch_min: float
    read_catalog_min: float


def main(
    data: DataConfig,
    backbones: tuple[str, ...] = ("packaged:all-MiniLM-L6-v2",),
    strategies: tuple[Strategy, ...] = ("frozen", "last_k", "lora", "full"),
    lora: LoraConfig = ALL_LAYERS,
    steps: int = 8,
    live_items: int = 256,
    batch_targets: int = 1024,
    dim: int = 128,
    json: Path | None = None,
) -> None:
    config = TrainConfig(epochs=1, batch_targets=batch_targets, trainable_items_per_step=live_items)
    asked = [BackboneConfig(name=name, strategy=strategy, lora=lora) for name in backbones for strategy in strategies]
    costs = []
    for backbone in asked:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            costs.append(process.submit(measure, data, backbone, ModelConfig(dim=dim), config, steps).result())
    machine = describe()
    print(f"{data.source}: {machine['cpu']}, one thread, torch {machine['torch']}\n")
    head = ["backbone", "strategy", "trains", "peak MiB", "CPU s a step", "CPU min an epoch", "CPU min the catalog"]
    body = [[c.backbone.removeprefix("packaged:"), c.strategy, f"{c.trains:,}", f"{c.peak_mib:,.0f}", f"{c.step_s:.2f}",
             f"{c.epoch_min:.1f}", f"{c.read_catalog_min:.1f}"] for c in costs]  # fmt: skip
    print("\n".join(format_table([head, *body])))
    write_record(json, [asdict(cost) for cost in costs], machine)


def measure(data: DataConfig, config: BackboneConfig, model: ModelConfig, training: TrainConfig, steps: int) -> Cost:
    """`steps` steps on a part of the users that holds about as many."""
    torch.set_num_threads(1)
    log = load_log(data)
    split = split_by_time(log.interactions, log.n_users, log.n_items)
    windows = build_training_windows(split.train, split.n_users, model.max_history, "strict")
    epoch = int(windows.n_targets.sum()) / training.batch_targets
    few = split.subsample_users(steps / epoch)
    backbone = TextBackbone.load(config)
    trains = apply_strategy(backbone, config).trainable
    reader = CatalogEncoder.from_texts(backbone, log.catalog.list_texts()).with_hidden_state_cache()
    read = np.arange(0, log.n_items, max(log.n_items // READ_TEXTS, 1))
    began = time.process_time()
    reader.encode(read)
    reading = (time.process_time() - began) / len(read) * log.n_items

    recommender = make_model(few, model, torch.randn(split.n_items, backbone.dim) / backbone.dim**0.5, 0)
    objective = RecommendationObjective(recommender, reader if trains else None)
    with tempfile.TemporaryDirectory() as folder:
        task = TrainingTask(
            few, make_queries(few, VALID, ties="strict"), "strict", True, Accelerator(cpu=True), Path(folder), ""
        )
        began = time.process_time()
        progress = train(config.strategy, task, objective, training, seed=0, validate=lambda: 0.0)
        spent = (time.process_time() - began) / progress.step
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    on_top = config.last_k if config.strategy == "last_k" else config.lora.last_k if config.strategy == "lora" else None
    strategy = config.strategy if on_top is None else f"{config.strategy} ({on_top})"
    return Cost(config.name, strategy, trains, peak, spent, spent * epoch / 60, reading / 60)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
