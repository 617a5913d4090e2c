"""`llmrec init`: from a folder with other names to a trained recommender, without an edit by hand."""

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest
import yaml

from llmrec.cli.main import main
from llmrec.data.log import Log

ZONE = timezone(timedelta(hours=2))


@pytest.fixture
def shop(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """purchases.jsonl and products.csv: other names, ISO times with a zone, a field with gaps and no title."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    folder, events = tmp_path / "shop", log.interactions
    folder.mkdir()
    rows = [
        {"customer": f"c{user}", "sku": f"p{item}", "bought": datetime.fromtimestamp(int(time), ZONE).isoformat()}
        for user, item, time in zip(events.user, events.item, events.time, strict=True)
    ]
    lines = [json.dumps({**row, "created_at": row["bought"]} | {"bought": 1}) for row in rows]
    (folder / "purchases.jsonl").write_text("\n".join(lines) + "\n")
    texts = log.catalog.list_texts()
    products = pa.table(
        {
            "sku": [f"p{item}" for item in range(len(texts))],
            "wording": [f"{text} in a red box" for text in texts],
            "brand": [None if item % 3 else f"brand {item % 5}" for item in range(len(texts))],
        }
    )
    pyarrow.csv.write_csv(products, folder / "products.csv")
    return folder


def test_a_folder_becomes_a_recommender_in_two_commands(
    shop: Path, tiny_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["init", "shop"])
    out = capsys.readouterr().out
    assert out.startswith("item texts as the model reads them:\n")
    assert out.splitlines()[1].endswith("in a red box. Brand: brand 0")
    assert out.splitlines()[2].endswith("in a red box")  # without the brand that it lacks
    assert out.rstrip().endswith("llmrec train --config shop.yaml")
    text = Path("shop.yaml").read_text()
    assert "created_at" in text
    assert "# not used: the times carry a zone" in text
    assert "# the only file with users, items and times" in text
    settings = yaml.safe_load(text)["data"]
    assert (settings["user_column"], settings["item_column"]) == ("customer", "sku")
    assert settings["label_column"] == "wording"
    few = ["--model.dim", "8", "--train.epochs", "1", "--evaluation.bootstrap_samples", "20"]
    main(["train", "--config", "shop.yaml", "--backbone.name", str(tiny_bert), "--json", *few])
    done = json.loads(capsys.readouterr().out)
    assert done["output"] == "runs/shop"
    assert done["report"] == json.loads(Path("runs/shop/report.json").read_text())
    main(["recommend", "runs/shop/bundle", "--user", "c3", "-k", "2", "--json"])
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])) == 2


def test_a_file_is_not_replaced_unasked(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("shop.yaml").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        main(["init", "shop"])
    assert stopped.value.code == 2
    assert "shop.yaml: it is there already" in capsys.readouterr().err
    main(["init", "shop", "--force", "--data.k_core", "2"])
    assert yaml.safe_load(Path("shop.yaml").read_text())["data"]["k_core"] == 2


def test_all_that_cannot_be_guessed_is_listed_at_once(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = pa.table({"who": ["a", "b"], "what": ["p1", "p2"], "x": [1.5, 2.5]})
    pyarrow.csv.write_csv(events, shop / "interactions.csv")
    with pytest.raises(SystemExit) as stopped:
        main(["init", "shop"])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    for setting in ("user_column", "item_column", "time_column"):
        assert f"--data.{setting} VALUE" in err
    with pytest.raises(SystemExit):
        main(["init", "nowhere"])
    assert "nowhere: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("unit", [1, 86_400])
def test_times_that_count_each_users_events_are_an_order(
    shop: Path, unit: int, tiny_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"c{user}", f"p{(3 * user + place) % 20}", place * unit) for user in range(12) for place in range(9)]
    columns = dict(zip(("customer", "sku", "day"), map(list, zip(*rows, strict=True)), strict=True))
    (shop / "purchases.jsonl").unlink()
    pyarrow.csv.write_csv(pa.table(columns), shop / "purchases.csv")
    main(["init", "shop"])
    assert "cold (leave_one_out)" in capsys.readouterr().out
    settings = yaml.safe_load(Path("shop.yaml").read_text())
    assert settings["data"]["times"] == "order_only"
    assert "drift" not in settings
    assert settings["evaluation"]["baselines"] == ["popularity", "item_knn", "nearest_text"]
    if unit == 1:
        few = ["--model.dim", "8", "--train.epochs", "1", "--evaluation.bootstrap_samples", "20"]
        main(["train", "--config", "shop.yaml", "--backbone.name", str(tiny_bert), "--json", *few])
        done = json.loads(capsys.readouterr().out)
        assert list(done["report"]["splits"]) == ["leave_one_out", "item_cold"]
        slices = {row["slice"] for row in done["report"]["rows"] if row["split"] == "item_cold"}
        assert {"warm_item", "cold_item"} <= slices
        main(["evaluate", "runs/shop/bundle", "--split", "item_cold"])
        with pytest.raises(SystemExit):
            main(["evaluate", "runs/shop/bundle", "--split", "by_time"])
        assert "leave_one_out or item_cold" in capsys.readouterr().err


def test_times_that_few_users_count_are_times(shop: Path) -> None:
    rows = [(f"c{user}", f"p{place}", place + user) for user in range(12) for place in range(9)]
    columns = dict(zip(("customer", "sku", "day"), map(list, zip(*rows, strict=True)), strict=True))
    (shop / "purchases.jsonl").unlink()
    pyarrow.csv.write_csv(pa.table(columns), shop / "purchases.csv")
    main(["init", "shop"])
    assert "times" not in yaml.safe_load(Path("shop.yaml").read_text())["data"]
