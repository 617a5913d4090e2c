"""Configurations nobody should write: named by key and value before anything is read, trained or written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmrec.cli.main import main
from llmrec.config.strict_yaml import MAX_DEPTH, validate_yaml

Count = Callable[[int], None]
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
FILES: dict[str, tuple[bytes, str]] = {  # what a file holds, and what the message says
    "billion laughs": (LAUGHS.encode(), "aliases unfold to more than 100,000 values"),
    "an alias within itself": (b"train: &a [*a]\n", "is inside &a"),
    "an alias of nothing": (b"train: *a\n", "undefined alias"),
    "brackets": (b"train: " + b"[" * 50_000, "nested more than 50 deep"),
    "indents": ("".join(" " * depth + "a:\n" for depth in range(200)).encode(), "nested more than 50 deep"),
    "a key twice": (b"train:\n  epochs: 1\n  epochs: 2\n", "'epochs' is there twice"),
    "a section twice": (b"train:\n  epochs: 1\ntrain:\n  patience: 2\n", "'train' is there twice"),
    "an object": (b"output: !!python/object/apply:os.system [touch sprung]\n", "could not determine a constructor"),
    "a tab": (b"train:\n\tepochs: 1\n", "cannot start any token"),
    "Latin-1": (b"output: caf\xe9\n", "UTF-8"),
    "UTF-16": ("train: {epochs: 1}\n".encode("utf-16"), ""),
    "zeros": (b"\x00" * 100, ""),
    "a zip": (b"PK\x03\x04\xff\xff", "UTF-8"),
    "a list": (b"- 1\n", "Unexpected config"),
    "a word": (b"train\n", "Unexpected config"),
    "nothing": (b"", ""),
    "an unknown key": (b"trian: {epochs: 1}\n", "trian"),
    "an unknown key below": (b"train: {epoch: 1}\n", "epoch"),
    "a null section": (b"train: null\n", "train=None"),
    "a list for a section": (b"train: [1]\n", "train"),
    "two documents": (b"train: {epochs: 1}\n---\ntrain: {epochs: 2}\n", "document"),
}
NUMBERS = (
    "--train.epochs=-1 --train.epochs=1e99 --train.epochs=nan --train.batch_targets=0 --train.learning_rate=0 "
    "--train.learning_rate=nan --train.learning_rate=inf --train.learning_rate=-1 --train.weight_decay=-1 "
    "--train.warmup_ratio=2 --train.max_grad_norm=0 --train.gradient_accumulation_steps=0 --train.negatives=0 "
    "--train.negatives=-5 --train.patience=0 --train.evals_per_epoch=0 --train.trainable_items_per_step=0 "
    "--train.refresh_every_steps=0 --adapt.epochs=-1 --model.dim=0 --model.dim=99999999999 --model.n_heads=0 "
    "--model.n_heads=3 --model.n_layers=-1 --model.dropout=1 --model.dropout=-0.1 --model.max_history=0 "
    "--model.temperature=0 --model.item_init_std=0 --model.feedforward_multiplier=0 "
    "--model.item_affinity=nan --sasrec.model.dim=0 --sasrec.train.epochs=-1 "
    "--backbone.max_tokens=0 --backbone.max_tokens=99999999 --backbone.last_k=0 --backbone.n_layers=0 "
    "--backbone.lora.rank=0 --backbone.lora.rank=-8 --backbone.lora.alpha=0 --backbone.prompt=hello! "
    "--data.k_core=-1 --split.valid_fraction=nan --split.test_fraction=0 --split.test_fraction=1 "
    "--evaluation.cutoffs=[0] --evaluation.cutoffs=[-1] --evaluation.max_queries=0 "
    "--evaluation.tuning_budget=0 --evaluation.n_explained_users=-1 --evaluation.bootstrap_samples=0 --seeds=[-1] "
    "--seeds=[99999999999999999999] --seeds=[1.5] --seeds=[] --train.epochs=true --train.epochs= "
    "--train.epochs=[1] --model.use_item_ids=maybe --data.unknown_items=ignore --mixed_precision=fp8 --nothing=1 "
    "--train.nothing=1"
).split()


def ended(capsys: pytest.CaptureFixture[str], run: Callable[..., None], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    err = capsys.readouterr().err
    assert stopped.value.code == 2, err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("name", FILES)
def test_files(
    name: str, recipe: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str], count: Count
) -> None:
    count(1)
    content, told = FILES[name]
    (tmp_path / "config.yaml").write_bytes(content)
    began = time.process_time()
    err = ended(capsys, recipe, "--config", str(tmp_path / "config.yaml"), "--output", str(tmp_path / "run"))
    assert told in err, err[:2000]
    assert len(err) < 20_000
    assert time.process_time() - began < 5
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("place", ["nowhere.yaml", "a-folder", "/dev/null", "x" * 5000, "link.yaml"])
def test_places(
    place: str, recipe: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str], count: Count
) -> None:
    count(1)
    (tmp_path / "a-folder").mkdir()
    (tmp_path / "link.yaml").symlink_to("link.yaml")
    ended(capsys, recipe, "--config", place if place.startswith("/") else str(tmp_path / place))


@pytest.mark.parametrize(
    "argument", [pytest.param(one, marks=pytest.mark.slow if place % 3 else ()) for place, one in enumerate(NUMBERS)]
)
def test_numbers_and_words(
    argument: str, recipe: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str], count: Count
) -> None:
    """Of a log that can be read: the setting is named all the same, and nothing is written."""
    from tests.hostile.corpus import laid

    count(1)
    (tmp_path / "log").mkdir()
    laid()(tmp_path / "log")
    given = [
        "--data.source",
        str(tmp_path / "log"),
        "--output",
        str(tmp_path / "run"),
        "--backbone.name",
        str(tmp_path),
    ]
    err = ended(capsys, recipe, *given, argument)
    name = argument[2:].split("=")[0]
    assert name.rsplit(".", 1)[-1] in err, err
    assert not (tmp_path / "run").exists()


def test_the_command_line_reads_as_strictly(log_folder: str, capsys: pytest.CaptureFixture[str], count: Count) -> None:
    count(3)
    for argument in ("--data.k_core=-1", "--split.test_fraction=nan", "--data={source: a, source: b}"):
        err = ended(capsys, lambda *given: main(list(given)), "audit", "--data.source", log_folder, argument)
        assert any(word in err for word in ("k_core=-1", "test_fraction=nan", "data")), err


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-99, 99)
    | st.floats(allow_nan=False)
    | st.text("abc: {}[]&*!#'\n", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcde", max_size=3), inner, max_size=3),
    max_leaves=12,
)


def test_what_a_person_writes_passes(count: Count) -> None:
    tried = []

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(VALUES)
    def passes(value: object) -> None:
        tried.append(value)
        validate_yaml(yaml.safe_dump(value))
        validate_yaml(json.dumps(value))

    passes()
    validate_yaml("a: &a {x: 1}\nb: *a\nc: [*a, *a]\nd:\n  <<: *a\n  y: 2\n")
    validate_yaml("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))
    count(len(tried) + 2)
