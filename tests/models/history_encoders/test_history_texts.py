"""One text of whole items, the newest last, whatever the limit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.config.model import HistoryTextConfig
from llmrec.errors import ConfigError, DataError
from llmrec.models.history_encoders.history_texts import HistoryTexts

TEXTS = ["space robot", "love", "war night river mountain", "garden kitchen"]  # 2, 1, 4 and 2 words of the tiny BERT


def flat(path: Path, max_tokens: int = 64, max_item: int = 16, **changes: object) -> HistoryTexts:
    backbone = TextBackbone.load(BackboneConfig(name=str(path), max_tokens=max_item))
    return HistoryTexts(replace(HistoryTextConfig(max_tokens=max_tokens), **changes), backbone, TEXTS)


def read(texts: HistoryTexts, *histories: list[int]) -> list[str]:
    tokens = texts.build_texts([np.array(rows, dtype=np.int64) for rows in histories])
    return [
        texts.tokenizer.decode(tokens.flat[start:end])
        for start, end in zip(tokens.offset[:-1], tokens.offset[1:], strict=True)
    ]


def test_items_stand_one_after_another_the_newest_last(tiny_bert: Path, tiny_gpt2: Path) -> None:
    assert read(flat(tiny_bert), [1, 0, 3], []) == ["[CLS] love ; space robot ; garden kitchen ; [SEP]", "[CLS] [SEP]"]
    assert read(flat(tiny_gpt2), [1, 0], []) == [" love; space robot;<|endoftext|>", "<|endoftext|>"]
    prompted = flat(tiny_bert, prompt="title {history} movie", separator="|")
    assert read(prompted, [1]) == ["[CLS] title love | movie [SEP]"]


@pytest.mark.parametrize("limit", range(10, 20))
def test_whole_items_are_left_out_the_oldest_first(tiny_bert: Path, limit: int) -> None:
    """[CLS] and [SEP] take 2; 4 + 1, 2 + 1, 1 + 1 and 2 + 1 the items with their separators."""
    history = [2, 0, 1, 3]
    fitting = next(k for k in range(5) if 2 + sum([5, 3, 2, 3][k:]) <= limit)
    words = "".join(f"{TEXTS[row]} ; " for row in history[fitting:])
    assert read(flat(tiny_bert, limit), history) == [f"[CLS] {words}[SEP]"]


def test_only_an_item_longer_than_the_limit_is_cut_and_keeps_its_beginning(tiny_bert: Path) -> None:
    texts = flat(tiny_bert, 10)
    texts.extend(["the war of the night and the river of love"])
    assert read(texts, [0, 4]) == ["[CLS] the war of the night and the river [SEP]"]
    assert read(texts, [4, 0]) == ["[CLS] space robot ; [SEP]"]


def test_an_item_is_no_longer_than_where_it_is_read_alone(tiny_bert: Path) -> None:
    assert read(flat(tiny_bert, max_item=3), [2, 1]) == ["[CLS] war night river ; love ; [SEP]"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"max_tokens": 129}, r"max_tokens=129: .* takes 128 tokens"),
        ({"max_tokens": 9}, r"leaves 7 tokens .* at least 10"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(tiny_bert: Path, changes: dict[str, int], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        flat(tiny_bert, **changes)


def test_an_item_of_no_catalog_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(DataError, match=r"catalog\.add"):
        read(flat(tiny_bert), [4])
