"""Recommender: a trained bundle in use. Histories and items in, scores and recommendations out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.data import DataConfig
from llmrec.config.drift import MAX_HISTORY
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.data.log import Log
from llmrec.hub.bundle import Bundle, load_bundle, save_bundle
from llmrec.hub.remote import Token, push_bundle, resolve_bundle, strip_private_paths
from llmrec.hub.training_log import load_bundle_log as bundle_log
from llmrec.hub.training_log import override_data_config
from llmrec.inference.drift_scoring import rank_by_log_probability, score_items
from llmrec.inference.explanations.explainer import build_explanation
from llmrec.inference.explanations.explanation import Explanation
from llmrec.inference.following import Following
from llmrec.inference.index_search import IndexSearch, scan_all
from llmrec.inference.live.users import list_seen_pairs
from llmrec.inference.log_users import LogUsers
from llmrec.inference.queries import History, Item, QueryBatch, Time, check_equal_length, find_item_rows
from llmrec.inference.ranked_items import Recommendation, Where, check_k, filter_mask, to_recommendations
from llmrec.inference.text_queries import query_bias
from llmrec.search.index import ItemIndex
from llmrec.search.topk import TopK


class Recommender(Following):
    """Recommends from, and scores against, a catalog that can grow, for users who are followed live.

    A history is a sequence of events, oldest first: item ids, fields of items that the catalog lacks (such as another
    domain's, which are then read by their text), or (item, time) pairs of either; or it is a live user's id, and means
    all that has been observed of that user. A time is seconds since the epoch, a datetime or an ISO string, UTC where
    it does not say. `at` is the query time: events at or after it are left out, but for a live user's, who is asked
    about from the newest event on. Without it the moment of the last event is asked about.

    Scores are logits of the model: they order items for one history, and their differences are log-odds. Where the
    bundle holds a drift head they are log chances by its mixture, in the light of what everybody does; counts are as of
    `at`, or as of the newest event of anybody where that is later.

    Users and counts begin with the log that the bundle was trained on where it can be read, else with the counts that
    the bundle keeps, and no users, else with nothing; `follow` and `load_state` choose. `observe` goes on from there.
    """

    def __init__(
        self, bundle: Bundle, folder: Path, backbone: str | None = None, device: str | torch.device | None = None
    ) -> None:
        if device is not None:
            bundle.model.to(device)
        super().__init__(bundle, folder, backbone)
        self._nearest: IndexSearch | None = None

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        backbone: str | None = None,
        device: str | torch.device | None = None,
        revision: str | None = None,
        token: Token = None,
    ) -> Recommender:
        """Load and verify a bundle: a folder, or a repository of the Hugging Face hub, OWNER/NAME.

        backbone: a local copy of the base model, for new text where no hub is at hand. device: the CPU unless given.
        revision: a branch, a tag or a commit on the hub. token: for private repositories, else that of `hf auth login`.

        Raises:
            BundleError: what is no bundle, was altered, does not reproduce its own scores, or cannot be fetched.
        """
        folder = resolve_bundle(name, revision, token)
        return cls(load_bundle(folder, backbone), folder, backbone, device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the bundle as it is now: items that were added or removed, and what has been counted, included."""
        save_bundle(Path(folder), self._current_bundle())

    def push_to_hub(
        self,
        repo_id: str,
        private: bool | None = None,
        revision: str | None = None,
        token: Token = None,
        base: str | None = None,
        counts: bool = True,
    ) -> str:
        """Put the bundle on the hub as it is now, in one commit; returns that commit's address.

        repo_id: OWNER/NAME, made if it is not there, then `private` or not. revision: a branch, made likewise; main
        unless given. base: the public name of the base model where it was trained from a folder. counts: also what a
        drift head has counted of everybody's events. No path of this machine goes along, and no user.

        Raises:
            BundleError: what the hub has against it, with a remedy; nothing is published then.
        """
        return push_bundle(strip_private_paths(self._current_bundle(), base, counts), repo_id, private, revision, token)

    @property
    def config(self) -> FinetuneConfig:
        """What the bundle was made with."""
        return self._bundle.config

    @property
    def backbone(self) -> TextBackbone:
        """The language model that reads new text; loaded when it is first needed."""
        return self._items.backbone

    def recommend(
        self,
        history: History = (),
        k: int = 10,
        at: Time | None = None,
        include_seen: bool = False,
        looking_for: str | None = None,
        where: Where | None = None,
        topic: str | None = None,
    ) -> list[Recommendation]:
        """The k items that score highest, those of the history left out unless `include_seen`.

        A user without any history is met with what the model expects of anybody: what is popular.

        looking_for: what the user says to want, in words, beside a history or in place of one: scores gain by how near
        an item's text is to it. where: which items there are to choose from, a mask (N,) or conditions on fields such
        as "category=Soap" or "genres~drama". topic: choose from the tenth of the catalog that is nearest to it in
        words; for another part give `items_about` as `where`. Where the catalog has release dates and `at` is given,
        items of a later date are left out.

        Raises:
            DataError: an unknown id or an unreadable time. ConfigError: k below 1, `where` that no item meets, or empty
            words.
            BundleError: text to read, and a recommender on ids alone.
        """
        return self.recommend_many([history], k, at, include_seen, looking_for, where, topic)[0]

    @torch.no_grad()
    def recommend_many(
        self,
        histories: Sequence[History],
        k: int = 10,
        at: Time | None = None,
        include_seen: bool = False,
        looking_for: str | None = None,
        where: Where | None = None,
        topic: str | None = None,
    ) -> list[list[Recommendation]]:
        """`recommend` for several histories in one pass."""
        check_k(k)
        with self._items.lock:
            bias = self._score_bias(at, looking_for, where, topic)
            found = self._rank(
                self._parse_histories(histories, at), min(k, max(len(self.catalog), 1)), include_seen, bias
            )
            return [to_recommendations(self.catalog, score, rows) for score, rows in zip(*found, strict=True)]

    @torch.no_grad()
    def recommend_users(
        self, users: LogUsers, k: int = 10, include_seen: bool = False, where: Where | None = None
    ) -> TopK:
        """`recommend` for users of a log, as of their queries' time, without an object for each: scores and catalog
        rows (U, k), those beyond what there is at -inf.
        """
        check_k(k)
        nobody = np.full(len(users), -1, dtype=np.int64)
        with self._items.lock:
            at = int(users.queries.time.max(initial=0))
            return self._rank(
                QueryBatch(users.queries, [], nobody), k, include_seen, self._score_bias(at, None, where, None)
            )

    def score(self, history: History, items: Sequence[Item], at: Time | None = None) -> list[float]:
        """A score for each item: a catalog id, or the fields of an item that is in no catalog.

        `{"title": ...}` goes through the bundle's template; `{"text": ...}` is read as it is. An item in no catalog
        scores as it would if it alone were added.

        Raises:
            DataError: an unknown id. BundleError: new text, and a recommender on ids alone.
        """
        return self.score_many([history], [items], at)[0]

    @torch.no_grad()
    def score_many(
        self, histories: Sequence[History], items: Sequence[Sequence[Item]], at: Time | None = None
    ) -> list[list[float]]:
        """`score` for several histories in one pass, each with items of its own."""
        check_equal_length(histories, items)
        with self._items.lock:
            batch, own = self._parse_histories(histories, at), self._items
            if own.drift is not None:
                return score_items(own, self.live, batch, items)
            states = own.scorer.encode_histories(batch.queries, own.cold_item_vectors(batch.texts)).unsqueeze(
                1
            )  # (B, 1, D)
            pairs = zip(states, items, strict=True)
            return [
                self._bundle.model.score(state, *own.scoring_vectors(wanted))[0].tolist() for state, wanted in pairs
            ]

    def explain(self, history: History, item: Item, at: Time | None = None, tokens: bool = False) -> Explanation:
        """Why an item, of the catalog or given by its fields, has its score: parts that add up to it, by term and by
        event of the history, and a sentence. `inference.explanations.decompose` says what is exact and what is
        attribution.

        tokens: also what the words of the item's text add to the score of the model below, which takes the backbone and
        captum (`pip install llmrec[explain]`).

        Raises:
            DataError: an unknown id. BundleError: text to read, and a recommender on ids alone. ConfigError: tokens,
            and no captum.
        """
        return self.explain_many([history], [item], at, tokens)[0]

    def explain_many(
        self, histories: Sequence[History], items: Sequence[Item], at: Time | None = None, tokens: bool = False
    ) -> list[Explanation]:
        """`explain` for several histories, an item for each."""
        check_equal_length(histories, items)
        own = self._items
        with own.lock:
            live = None if own.drift is None else self.live
            scores = self.score_many(histories, [[item] for item in items], at)
            batch = [self._parse_histories([history], at) for history in histories]
            most = max(MAX_HISTORY, self.config.model.max_history)
            return [
                build_explanation(own, live, one, item, most, score, tokens)
                for one, item, (score,) in zip(batch, items, scores, strict=True)
            ]

    def add_items(self, items: Sequence[Mapping[str, object]]) -> None:
        """Put new items (fields with their id) into the catalog: they can be recommended at once, by their text.

        Raises:
            DataError: an id that is missing, given twice or taken; nothing is added then.
        """
        if not items:
            return
        with self._items.lock:
            self._items.extend(items)
            if self._live is not None:
                self._live.add_new_items()

    def use_index(self, index: ItemIndex | str | None) -> None:
        """Look up items in an index, for catalogs that take too long to scan: ivf, sq8, hnsw, `milvus:` with a file or
        a URI, or an `ItemIndex`; None scans again, as is the default. Scores stay exact, and no fewer items are found.

        Raises:
            ConfigError: a bundle with a drift head, or as `IndexSearch` and `open_index` do.
        """
        with self._items.lock:
            self._nearest = None if index is None else IndexSearch(self._items, index)

    def remove_items(self, items: Sequence[str]) -> None:
        """Recommend these no more; histories may still hold them, and they can be scored.

        Raises:
            DataError: an unknown id; nothing is removed then.
        """
        with self._items.lock:
            find_item_rows(self.catalog, items)
            self._items.removed.update(items)

    def restore_items(self, items: Sequence[str]) -> None:
        """Recommend removed items again.

        Raises:
            DataError: an unknown id; nothing is restored then.
        """
        with self._items.lock:
            find_item_rows(self.catalog, items)
            self._items.removed.difference_update(items)

    def _current_bundle(self) -> Bundle:
        items, drift = self._items, self._items.drift
        if drift is not None and drift.counts is not None and self._live is not None:
            drift = replace(drift, counts=self._live.export_counts())
        removed = tuple(sorted(items.removed))
        return replace(self._bundle, catalog=items.catalog, drift=drift, removed=removed)

    def _score_bias(self, at: Time | None, looking_for: str | None, where: Where | None, topic: str | None) -> Tensor:
        """(N,) what scores gain: evidence of what is looked for, and -inf for what is not to be chosen from."""
        bias = self._exclusion_bias(at)
        if looking_for is not None:
            bias += query_bias(self._items, looking_for).to(bias)
        if where is not None:
            bias[torch.from_numpy(~filter_mask(self.catalog, where))] = -torch.inf
        if topic is not None:
            bias[torch.from_numpy(~self.items_about(topic))] = -torch.inf
        return bias

    def _rank(self, batch: QueryBatch, k: int, include_seen: bool, bias: Tensor) -> TopK:
        items = self._items
        seen = None if include_seen else list_seen_pairs(batch, len(self.catalog), self._live)
        if items.drift is not None:
            return rank_by_log_probability(items, self.live, batch, k, seen, bias)
        states = items.scorer.encode_histories(batch.queries, items.cold_item_vectors(batch.texts))  # (B, D)
        if self._nearest is None:
            return scan_all(items, states, k, seen, bias)
        return self._nearest.search(states, k, seen, bias)


def load_training_log(recommender: Recommender, data: DataConfig | None) -> Log:
    return bundle_log(recommender.vectors.bundle, override_data_config(recommender.config.data, data))
