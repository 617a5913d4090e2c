"""Well-known logs in their published form: each is read by its preset, and recognized by its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmrec.config.data import DataConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.loader import parse_config
from llmrec.config.presets import get_preset
from llmrec.data.known_logs import MARKS, recognize_log
from llmrec.data.loading import load_log
from llmrec.data.log_proposal import propose_log
from tests.data.published import EVENTS, LOGS


def parse_data(name: str, folder: Path) -> DataConfig:
    given = ["--config", str(get_preset(name, "finetune")), "--data.source", str(folder)]
    return parse_config(FinetuneConfig, given).data


def test_every_preset_of_a_published_log_is_tried() -> None:
    assert set(LOGS) == set(MARKS)


@pytest.mark.parametrize("name", LOGS)
def test_a_preset_needs_a_folder_and_nothing_else(name: str, tmp_path: Path) -> None:
    published = LOGS[name]
    published.lay(tmp_path)
    config = parse_config(
        FinetuneConfig, ["--config", str(get_preset(name, "finetune")), "--data.source", str(tmp_path)]
    )
    log = load_log(config.data)
    assert log.facts.n_events == published.n_events == EVENTS
    assert log.facts.first_time == published.first_time
    assert log.catalog.list_texts()[0] == published.text
    assert len(log.catalog) == 5


@pytest.mark.parametrize("name", LOGS)
def test_a_published_log_is_recognized(name: str, tmp_path: Path) -> None:
    LOGS[name].lay(tmp_path)
    known = recognize_log(tmp_path)
    assert known is not None
    assert known.preset == name
    assert known.config == parse_data(name, tmp_path)


def test_a_proposal_for_a_published_log_names_its_preset(tmp_path: Path) -> None:
    LOGS["movielens_1m"].lay(tmp_path)
    proposal = propose_log(tmp_path, {"k_core": 2})
    assert proposal.reasons["items_format"] == "as in the preset movielens_1m"
    assert (proposal.reasons["k_core"], proposal.config.k_core) == ("given", 2)
    assert recognize_log(tmp_path / "nowhere") is None
    assert replace(proposal.config, source=None).interactions == "ratings.dat"
