"""A frozen backbone never reads the same text twice, not even when it was interrupted or shares the work."""

import os
import resource
import signal
import sys
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.text_vector_cache import HISTORIES, FillResult, TextVectorCache, delete_history_vectors
from llmrec.config.backbone import BackboneConfig
from llmrec.errors import StorageError


@pytest.fixture
def backbone(tiny_bert: Path) -> TextBackbone:
    return TextBackbone.load(BackboneConfig(name=str(tiny_bert)))


@pytest.fixture
def read(backbone: TextBackbone, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each call of the backbone's encode was given."""
    calls: list[int] = []
    encode = backbone.encode

    def counted(tokens, describe=None):  # type: ignore[no-untyped-def]
        calls.append(len(tokens))
        return encode(tokens, describe)

    monkeypatch.setattr(backbone, "encode", counted)
    return calls


def test_only_new_texts_are_read(backbone: TextBackbone, read: list[int], tmp_path: Path) -> None:
    first = TextVectorCache(backbone, tmp_path).get_vectors(["hats", "red shoes", "hats"])
    again = TextVectorCache(backbone, tmp_path).get_vectors(["red shoes", "blue hats", "hats"])
    assert read == [2, 1]
    assert torch.equal(first[0], first[2])
    assert torch.equal(first[1], again[0])
    assert torch.equal(first[0], again[2])
    assert torch.equal(TextVectorCache(backbone, tmp_path).get_vectors(["blue hats"]), again[1:2])
    assert read == [2, 1]


def test_what_is_missing_is_told_before_it_is_read(backbone: TextBackbone, read: list[int], tmp_path: Path) -> None:
    texts = ["hats", "red shoes", "hats", "blue hats"]
    assert sorted(TextVectorCache(backbone, tmp_path).find_missing(texts)) == [0, 1, 3]
    TextVectorCache(backbone, tmp_path).get_vectors(["red shoes"])
    assert sorted(TextVectorCache(backbone, tmp_path).find_missing(texts)) == [0, 3]
    assert read == [1]


def test_a_damaged_shard_is_told_of_and_read_again(
    backbone: TextBackbone, read: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = TextVectorCache(backbone, tmp_path).get_vectors(["hats", "red shoes"])
    (shard,) = tmp_path.rglob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-3])
    assert torch.equal(TextVectorCache(backbone, tmp_path).get_vectors(["hats", "red shoes"]), first)
    assert read == [2, 2]
    assert f"{shard}: damaged shard removed" in caplog.text


def test_a_full_disk_is_told_of_and_leaves_what_was_read(backbone: TextBackbone, tmp_path: Path) -> None:
    texts = [f"hat {row}" for row in range(40)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    TextVectorCache(backbone, tmp_path).fill(texts[:5])
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))  # bytes of a file; the vectors take 5,120
    try:
        with pytest.raises(StorageError, match=r"File too large.*LLMREC_CACHE"):
            TextVectorCache(backbone, tmp_path).fill(texts)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(list(tmp_path.rglob("*.*"))) == 1  # nothing half written
    assert TextVectorCache(backbone, tmp_path).fill(texts) == FillResult(40, 35)


def test_other_weights_have_another_cache(backbone: TextBackbone, read: list[int], tmp_path: Path) -> None:
    before = TextVectorCache(backbone, tmp_path).get_vectors(["hats"])
    with torch.no_grad():
        next(backbone.model.parameters()).mul_(1.5)
    assert not torch.allclose(TextVectorCache(backbone, tmp_path).get_vectors(["hats"]), before)
    assert read == [1, 1]


def test_a_write_that_was_cut_off_is_ignored(backbone: TextBackbone, read: list[int], tmp_path: Path) -> None:
    cache = TextVectorCache(backbone, tmp_path)
    cache.folder.mkdir(parents=True)
    (cache.folder / "abc.123.partial").write_bytes(b"half a shard")
    assert cache.get_vectors(["hats"]).shape == (1, backbone.dim)


def test_ways_of_reading_are_never_mixed(backbone: TextBackbone, tmp_path: Path) -> None:
    exact = TextVectorCache(backbone, tmp_path)
    backbone.config = replace(backbone.config, encode_precision="auto")
    assert exact.folder != TextVectorCache(backbone, tmp_path).folder


TEXTS = [f"hats {number}" for number in range(23)]


def test_a_killed_run_goes_on_where_it_was(backbone: TextBackbone, read: list[int], tmp_path: Path) -> None:
    def read_until_killed() -> None:
        encode = backbone.encode
        backbone.encode = lambda *given: os.kill(os.getpid(), signal.SIGKILL) if len(read) == 3 else encode(*given)
        TextVectorCache(backbone, tmp_path, shard_texts=5).get_vectors(TEXTS)

    process = get_context("fork").Process(target=read_until_killed)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert read == []  # by this process
    found = TextVectorCache(backbone, tmp_path, shard_texts=5).get_vectors(pa.array(TEXTS, pa.large_string()))
    assert read == [5, 3]  # three of five shards were there
    torch.testing.assert_close(found, backbone.encode(backbone.tokenize(TEXTS)), atol=1e-5, rtol=0)


def test_processes_share_the_reading(backbone: TextBackbone, read: list[int], tmp_path: Path) -> None:
    from accelerate import debug_launcher

    TextVectorCache(backbone, tmp_path).get_vectors(TEXTS[:3])  # that none has to read
    debug_launcher(read_with_others, (backbone, read, tmp_path), num_processes=2)
    seen = [np.load(tmp_path / f"{process}.npz") for process in (0, 1)]
    assert [int(part["processes"]) for part in seen] == [2, 2]
    assert min(part["read"].sum() for part in seen) > 0
    assert sum(part["read"].sum() for part in seen) == len(TEXTS) - 3
    expected = backbone.encode(backbone.tokenize(TEXTS)).numpy()
    for part in seen:
        np.testing.assert_allclose(part["vectors"], expected, atol=1e-5)


def read_with_others(backbone: TextBackbone, read: list[int], folder: Path) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # of earlier tests, before the fork
    read.clear()
    accelerator = Accelerator(cpu=True)
    vectors = TextVectorCache(backbone, folder, accelerator=accelerator, shard_texts=5).get_vectors(TEXTS)
    processes = accelerator.num_processes
    np.savez(folder / f"{accelerator.process_index}.npz", read=read, vectors=vectors, processes=processes)


def test_filling_reads_each_text_once_and_keeps_none(backbone: TextBackbone, read: list[int], tmp_path: Path) -> None:
    cache = TextVectorCache(backbone, tmp_path, shard_texts=10)
    cache.get_vectors(TEXTS[:3])
    texts = pa.array([*TEXTS, *TEXTS], pa.large_string())
    assert cache.fill(texts) == FillResult(len(TEXTS), len(TEXTS) - 3)
    assert cache.fill(TEXTS) == FillResult(len(TEXTS), 0)
    assert cache.fill([]) == FillResult(0, 0)
    assert read == [3, 10, 10]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is mapped")
def test_shards_stay_on_disk(backbone: TextBackbone, tmp_path: Path) -> None:
    cache = TextVectorCache(backbone, tmp_path)
    cache.get_vectors(TEXTS)
    cache.get_vectors(TEXTS[:1])
    (path,) = cache.folder.glob("*.safetensors")
    start = cache._shards[path].vectors.data_ptr()
    ranges = [
        line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if path.name in line
    ]
    assert any(int(low, 16) <= start < int(high, 16) for low, high in ranges)


def test_histories_have_a_folder_of_their_own_which_can_go(
    backbone: TextBackbone, read: list[int], tmp_path: Path
) -> None:
    cache = TextVectorCache(backbone, tmp_path)
    cache.get_vectors(["hats"])
    history = backbone.tokenize(["hats, red shoes"])
    vectors = cache.get_history_vectors(history)
    folders = {folder.name for folder in (tmp_path / "text").iterdir()}
    assert folders == {cache.folder.name, cache.folder.name + HISTORIES}
    assert torch.equal(TextVectorCache(backbone, tmp_path).get_history_vectors(history), vectors)
    assert read == [1, 1]
    assert delete_history_vectors(tmp_path) == 1
    assert [folder.name for folder in (tmp_path / "text").iterdir()] == [cache.folder.name]
    assert delete_history_vectors(tmp_path) == 0
    assert torch.equal(cache.get_history_vectors(history), vectors)  # it is read again
    TextVectorCache(backbone, tmp_path).get_vectors(["hats"])
    assert read == [1, 1, 1]
