"""Names of datasets, their configurations and splits; a local folder that is laid out like a dataset is the hub's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrec.config.data import DataConfig
from llmrec.data.loading import load_log
from llmrec.data.readers.hub import HubPlace, parse_hub_place
from llmrec.errors import DataError

EVENTS = [{"user_id": "a", "item_id": "x", "timestamp": 5}, {"user_id": "b", "item_id": "y", "timestamp": 6}]
ITEMS = [{"item_id": "x", "title": "X"}, {"item_id": "y", "title": "Y"}]


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset whose author called its configurations `seen` and `films`; `seen` has two splits."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "films"
    folder.mkdir()
    for name, rows in (("first", EVENTS[:1]), ("last", EVENTS[1:]), ("films", ITEMS)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: seen\n  data_files:\n  - split: first\n    path: first.jsonl\n"
        "  - split: last\n    path: last.jsonl\n- config_name: films\n  data_files: films.jsonl\n---\n"
    )
    return folder


@pytest.mark.parametrize(
    ("place", "parts"),
    [
        ("hub:me/films", HubPlace("me/films", None, None, None)),
        ("hub:me/films:seen", HubPlace("me/films", None, "seen", None)),
        ("hub:me/films@v1:seen:train", HubPlace("me/films", "v1", "seen", "train")),
        ("hub:me/films::train", HubPlace("me/films", None, None, "train")),
        ("me/films@v1", HubPlace("me/films", "v1", None, None)),
    ],
)
def test_names_have_a_revision_a_configuration_and_a_split(place: str, parts: HubPlace) -> None:
    assert parse_hub_place(place) == parts


def test_a_configuration_and_a_split_can_be_named(films: Path) -> None:
    items = f"hub:{films}:films"
    whole = load_log(DataConfig(interactions=f"hub:{films}:seen", items=items))
    assert whole.user_ids.to_pylist() == ["a", "b"]
    last = load_log(DataConfig(interactions=f"hub:{films}:seen:last", items=items))
    assert last.user_ids.to_pylist() == ["b"]


def test_who_names_no_configuration_is_shown_how(films: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_log(DataConfig(interactions=f"hub:{films}", items=f"hub:{films}:plots"))
    items, events = sorted(caught.value.problems, key=lambda line: "interactions" in line)
    assert "several configurations; it has seen, films" in events
    assert f"data.interactions=hub:{films}:seen" in events
    assert "no configuration 'plots'; it has seen, films" in items
