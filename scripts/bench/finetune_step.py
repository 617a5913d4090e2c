"""One LoRA step through a backbone: each item read once, its lower layers kept, its text vectors mostly stored.

    OMP_NUM_THREADS=1 python scripts/bench/finetune_step.py [--data.source FOLDER] [--users 64] [--events 50]
        [--rounds 3] [--json PATH] [--device cuda] [--autocast true]

Each way of reading makes the same step in a process of its own, whose peak memory is its own too; the first one, for
which memory is taken and what is used first is loaded, does not count. Rounds are interleaved; times are CPU time of
one thread, medians; on a GPU, the time until it is done, and the memory of its tensors. autocast: the step in bf16, as
`accelerate launch --mixed_precision bf16` makes it. Gradients are those of the LoRA weights: how far they are apart
from their peer's, in proportion to its norm, and the cosine of the two, which tells the bias of a stored table. All
slots of 64 histories at once take 16 GiB or more.
"""

from __future__ import annotations

import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, Literal

import jsonargparse
import numpy as np
import torch
from clock import seconds_of, unit_of
from machine import describe, write_record
from torch import Tensor

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.text_vector_cache import TextVectorCache
from llmrec.config.backbone import BackboneConfig, LoraConfig
from llmrec.config.data import DataConfig
from llmrec.config.model import ModelConfig
from llmrec.data.batches import HistoryBatch
from llmrec.data.histories import Histories
from llmrec.data.loading import load_log
from llmrec.models.losses import sampled_softmax_loss
from llmrec.models.recommender_model import RecommenderModel
from llmrec.utils.arrays import Rows
from llmrec.utils.text import format_table

Way = Literal[
    "every slot",
    "each item once",
    "each item once, checkpointed",
    "top 2",
    "top 2, lower layers kept",
    "256 live items",
    "96 live items",
]
PEERS: dict[Way, Way] = {
    "each item once": "every slot",
    "each item once, checkpointed": "each item once",
    "top 2, lower layers kept": "top 2",
    "256 live items": "every slot",
    "96 live items": "every slot",
}
NEGATIVES = 1024
STEPS_ON_GPU = 5  # their median is a round's
MOVIES = DataConfig(source="movielens_small", text_template="{title} ({year}). Genres: {genres}")


@dataclass(frozen=True)
class Step:
    """gradient: of all LoRA weights, one after the other."""

    seconds: float
    peak_mib: float
    gradient: Tensor


@dataclass(frozen=True)
class Setup:
    """Sequences of `events` + 1 items of `users` users; each item but the first is a target of the items before it."""

    data: DataConfig
    backbone: str
    users: int
    events: int
    device: str
    autocast: bool


def main(
    data: DataConfig = MOVIES,
    backbone: str = "packaged:all-MiniLM-L6-v2",
    users: int = 64,
    events: int = 50,
    rounds: int = 3,
    device: str = "cpu",
    autocast: bool = False,
    json: Path | None = None,
) -> None:
    setup = Setup(data, backbone, users, events, device, autocast)
    ways: list[Way] = list(dict.fromkeys(way for pair in PEERS.items() for way in reversed(pair)))
    steps: dict[Way, list[Step]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                steps[way].append(process.submit(measure, setup, way).result())
    rows, body = [], []
    for way, peer in PEERS.items():
        row = compared(f"LoRA step, {way}, beside {peer}", steps[way], steps[peer], f"{unit_of(device, 's')} a step")
        rows.append(row)
        body.append([row["work"], row["spread"], row["peer_spread"], f"{row['ratio']:.2f}", f"{row['mib']:,.0f}",
                     f"{row['peer_mib']:,.0f}",
                     f"{row['gradient_cosine']:.4f}", f"{row['gradient_apart']:.0e}"])  # fmt: skip
    seconds = f"{unit_of(device, 's')} ours"
    head = ["work", seconds, "peer", "ratio", "peak MiB ours", "peer", "gradients' cosine", "apart"]
    print("\n".join(format_table([head, *body])))
    write_record(json, rows, describe())


def compared(work: str, ours: list[Step], peer: list[Step], unit: str) -> dict[str, Any]:
    """A row of the record, with both sides' medians and spreads."""
    one, other = ours[0].gradient, peer[0].gradient
    seconds, theirs = (median(step.seconds for step in steps) for steps in (ours, peer))
    spread, peer_spread = (
        f"{min(step.seconds for step in steps):.3g} to {max(step.seconds for step in steps):.3g}"
        for steps in (ours, peer)
    )
    return {
        "work": work,
        "ours": seconds,
        "peer": theirs,
        "ratio": theirs / seconds,
        "unit": unit,
        "spread": spread,
        "peer_spread": peer_spread,
        "mib": median(step.peak_mib for step in ours),
        "peer_mib": median(step.peak_mib for step in peer),
        "gradient_cosine": float(torch.cosine_similarity(one, other, dim=0)),
        "gradient_apart": float((one - other).norm() / other.norm()),
    }


def measure(setup: Setup, way: Way) -> Step:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    log = load_log(setup.data)
    texts = log.catalog.list_texts()
    lora = LoraConfig(last_k=2 if way.startswith("top 2") else None)
    again = way.endswith("checkpointed")
    config = BackboneConfig(name=setup.backbone, strategy="lora", lora=lora, gradient_checkpointing=again)
    stored = TextVectorCache(TextBackbone.load(config).to(setup.device)).get_vectors(texts)
    backbone = TextBackbone.load(config).to(setup.device)
    apply_strategy(backbone, config)
    tuned = [weight for weight in backbone.parameters() if weight.requires_grad]
    with torch.no_grad():
        for weight in tuned:  # LoRA begins at 0, where half of its gradients are 0 as well
            weight.copy_(torch.randn(weight.shape) * 0.02)
    reader = CatalogEncoder.from_texts(backbone, texts)
    if way == "top 2, lower layers kept":
        reader = reader.with_hidden_state_cache()
    items, batch = sequences(Histories.from_interactions(log.interactions, log.n_users), setup)
    model = RecommenderModel(
        ModelConfig(dropout=0.0, use_item_ids=False), torch.ones(log.n_items, dtype=torch.bool), stored
    )
    model, batch, stored = model.to(setup.device), batch.to(torch.device(setup.device)), stored.to(setup.device)

    def step() -> None:
        backbone.zero_grad()
        with torch.autocast(setup.device, torch.bfloat16, enabled=setup.autocast):
            value = loss(model, read(way, reader, items, stored), batch)
        value.backward()  # type: ignore[no-untyped-call]

    step()
    if setup.device == "cpu":
        seconds = seconds_of(step)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    else:
        torch.cuda.reset_peak_memory_stats()
        seconds = median(seconds_of(step, setup.device) for _ in range(STEPS_ON_GPU))
        peak = torch.cuda.max_memory_allocated() / 2**20
    gradient = torch.cat([weight.grad.flatten() for weight in tuned if weight.grad is not None])
    return Step(seconds, peak, gradient.cpu())


def sequences(histories: Histories, setup: Setup) -> tuple[Rows, HistoryBatch]:
    """(B, T + 1) items, and the batch in which an item goes by its place among the (B, T) of the histories."""
    n_events = np.diff(histories.offset)
    users = np.flatnonzero(n_events > setup.events)[: setup.users]
    if len(users) < setup.users:
        raise SystemExit(f"only {len(users)} users have more than {setup.events} events; give --users or --events")
    place = histories.offset[users][:, None] + np.arange(setup.events + 1)
    items, event_time = histories.item[place], torch.from_numpy(histories.time[place[:, :-1]])
    shape = (setup.users, setup.events)
    asked = torch.arange(setup.users)[:, None] * (setup.events + 1) + torch.arange(1, setup.events + 1)
    batch = HistoryBatch(
        history=torch.arange(items[:, :-1].size).view(shape),
        history_mask=torch.ones(shape, dtype=torch.bool),
        event_time=event_time,
        query_time=torch.cat([event_time[:, :1], event_time], dim=1),
        source=asked.flatten(),
        target=torch.from_numpy(items[:, 1:].ravel()),
    )
    return items, batch


def read(way: Way, reader: CatalogEncoder, items: Rows, stored: Tensor) -> Tensor:
    """Text vectors (B, T + 1, D_text) of the sequences."""
    if way == "every slot":
        return reader.encode_with_grad(items.ravel()).view(*items.shape, -1)
    distinct, inverse = np.unique(items, return_inverse=True)
    if way.endswith("live items"):
        most = min(int(way.split()[0]), len(distinct))
        live = np.random.default_rng(0).choice(len(distinct), most, replace=False)
        table = stored[torch.from_numpy(distinct).to(stored.device)]
        table = table.index_copy(0, torch.from_numpy(live).to(stored.device), reader.encode_with_grad(distinct[live]))
    else:
        table = reader.encode_with_grad(distinct)
    return table[torch.from_numpy(inverse.reshape(items.shape)).to(table.device)]


def loss(model: RecommenderModel, text: Tensor, batch: HistoryBatch) -> Tensor:
    """Mean softmax cross-entropy of the targets against shared negatives, whose vectors are stored ones."""
    vectors = model.items.encode_text(text)  # (B, T + 1, D)
    states = model.encode_histories(vectors[:, :-1].flatten(0, 1), batch)
    drawn = torch.randint(len(model.items.known), (NEGATIVES,), generator=torch.Generator().manual_seed(0))
    drawn, stored = drawn.to(text.device), model.items.text
    if stored is None:
        raise ValueError("the model has no text")
    negatives = model.items.encode_text(stored[drawn])
    wanted = vectors[:, 1:].flatten(0, 1)
    return sampled_softmax_loss(
        states, wanted, negatives, batch.target, negative_rows=drawn, n_items=len(stored)
    ) / len(batch.target)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
