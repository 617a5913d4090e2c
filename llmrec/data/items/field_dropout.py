"""Second texts of items, which lack some of their fields or words, so that a backbone does not depend on any one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from llmrec.data.items.catalog import ItemCatalog
from llmrec.data.texts.templates import parse_template, render


def drop_fields(catalog: ItemCatalog, share: float, seed: int) -> list[str]:
    """Render each item without a random part of its fields, or of its words if the template has one field.

    Args:
        catalog: Catalog of N items.
        share: Chance of each field or word to be left out; an item that would lose all keeps all.
        seed: Seed of the choice.

    Returns:
        Texts, N of them.
    """
    rng, template = np.random.default_rng((seed, 2)), parse_template(catalog.template)
    names = [name for name in dict.fromkeys(template.fields) if name in catalog.fields.column_names]
    if len(names) < 2:
        return [_drop_words(text, share, rng) for text in catalog.list_texts()]
    kept = rng.random((len(catalog), len(names))) >= share
    rows = [pa.array(np.arange(len(catalog)), mask=~kept[:, place]) for place in range(len(names))]
    columns = {name: catalog.fields[name].take(own) for name, own in zip(names, rows, strict=True)}
    rendered = render(template, pa.table(columns)).to_pylist()
    return [text or whole for text, whole in zip(rendered, catalog.list_texts(), strict=True)]


def _drop_words(text: str, share: float, rng: np.random.Generator) -> str:
    words = text.split()
    kept = [word for word, chance in zip(words, rng.random(len(words)), strict=True) if chance >= share]
    return " ".join(kept) or text
