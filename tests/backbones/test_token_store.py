"""Texts as token ids: special tokens once each, cuts that leave room, and batches that are only padded views."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from llmrec.backbones.token_store import TokenStore
from llmrec.errors import BackboneError

TEXTS = ["red shoes", "", "a much longer text about love and war in space", "hats"]


def tokenizer_of(path: Path) -> Any:
    return AutoTokenizer.from_pretrained(path)


def rows(tokens: TokenStore) -> list[list[int]]:
    return [tokens.flat[a:b].tolist() for a, b in zip(tokens.offset[:-1], tokens.offset[1:], strict=True)]


@pytest.mark.parametrize("max_tokens", [4, 64])
def test_a_decoders_text_ends_on_one_eos(tiny_gpt2: Path, tiny_llama: Path, max_tokens: int) -> None:
    for path in (tiny_gpt2, tiny_llama):
        tokenizer = tokenizer_of(path)
        ended = [f"hats{tokenizer.eos_token}"]
        found = rows(TokenStore.from_texts(TEXTS + ended, tokenizer, max_tokens, append_eos=True))
        for row in found:
            assert row[-1] == tokenizer.eos_token_id
            assert row.count(tokenizer.eos_token_id) == 1
            assert len(row) <= max_tokens
        assert found[3] == found[4]  # the text's own EOS is enough


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_ids_are_those_of_the_tokenizers_own_call(
    name: str, special: bool, side: str, request: pytest.FixtureRequest
) -> None:
    tokenizer, own = (tokenizer_of(request.getfixturevalue(name)) for _ in range(2))
    tokenizer.truncation_side = own.truncation_side = side
    tokenizer(TEXTS, truncation=True, max_length=3, padding=name != "tiny_gpt2")  # whose settings stay behind
    for most in (4, 64):
        expected = own(TEXTS, truncation=True, max_length=most, add_special_tokens=special)["input_ids"]
        assert rows(TokenStore.from_texts(TEXTS, tokenizer, most, special=special)) == expected


def test_texts_are_appended_row_by_row() -> None:
    first, second = ([[1, 2], [], [3]], [[4], [5, 6], [7]])
    stores = []
    for texts in (first, second):
        flat = np.fromiter(chain.from_iterable(texts), dtype=np.int32)
        stores.append(TokenStore(flat, np.cumsum([0, *map(len, texts)], dtype=np.int64), pad_id=0))
    assert rows(stores[0].append(stores[1])) == [[1, 2, 4], [5, 6], [3, 7]]


def test_special_tokens_are_the_tokenizers_own_or_none(tiny_llama: Path) -> None:
    tokenizer = tokenizer_of(tiny_llama)
    (usual,), (bare,) = (
        rows(TokenStore.from_texts(["hats"], tokenizer, 64)),
        rows(TokenStore.from_texts(["hats"], tokenizer, 64, special=False)),
    )
    assert usual == [tokenizer.bos_token_id, *bare]
    assert tokenizer.decode(bare) == "hats"


def test_a_tokenizer_without_eos_cannot_end_a_text(tiny_bert: Path) -> None:
    with pytest.raises(BackboneError, match="no EOS token, in which the text of a decoder ends"):
        TokenStore.from_texts(["hats"], tokenizer_of(tiny_bert), 64, append_eos=True)


def test_a_batch_is_padded_right_and_a_selection_keeps_its_texts(tiny_llama: Path) -> None:
    tokens = TokenStore.from_texts(TEXTS, tokenizer_of(tiny_llama), 64, append_eos=True)
    chosen = np.array([2, 1])
    ids, mask = tokens.get_batch(chosen, torch.device("cpu"))
    assert ids.shape == mask.shape == (2, tokens.lengths[2])
    for row, padded, real in zip(chosen, ids.tolist(), mask.tolist(), strict=True):
        n = int(tokens.lengths[row])
        assert real == [1] * n + [0] * (len(real) - n)
        assert padded[:n] == rows(tokens)[row]
        assert set(padded[n:]) <= {tokens.pad_id}
    assert rows(tokens.take(chosen)) == [rows(tokens)[row] for row in chosen]
