"""Texts that were read are not read again, and come back as they were."""

from __future__ import annotations

import torch

from llmrec.inference.vector_lru import VectorLru


def test_texts_are_read_once_until_they_are_forgotten() -> None:
    read = list[str]()

    def reader(texts: list[str]) -> torch.Tensor:
        read.extend(texts)
        return torch.tensor([[float(len(text)), float(ord(text[0]))] for text in texts]).reshape(-1, 2)

    memory = VectorLru(reader, most=3)
    assert memory.get_vectors(["a", "bb", "a"]).tolist() == [[1, 97], [2, 98], [1, 97]]
    assert read == ["a", "bb"]
    assert memory.get_vectors(["bb", "ccc"]).tolist() == [[2, 98], [3, 99]]
    memory.get_vectors(["a", "dddd"])  # bb is the one that was asked for longest ago
    read.clear()
    assert memory.get_vectors(["bb", "a"]).tolist() == [[2, 98], [1, 97]]
    assert read == ["bb"]
    read.clear()
    many = ["a", "b", "c", "d"]
    assert memory.get_vectors(many).tolist() == [[1, ord(each)] for each in many]
    assert memory.get_vectors([]).shape == (0, 2)
