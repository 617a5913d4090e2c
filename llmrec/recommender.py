"""Recommender: a trained bundle in use. Histories and items in, scores and recommendations out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.data import DataConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.data.log import Log
from llmrec.hub.bundle import Bundle, load_bundle, save_bundle
from llmrec.hub.remote import Token, push_bundle, resolve_bundle, strip_private_paths
from llmrec.hub.training_log import load_own_log
from llmrec.inference.drift_scoring import rank_by_log_probability, score_items
from llmrec.inference.explanations.explainer import build_explanation
from llmrec.inference.explanations.explanation import Explanation
from llmrec.inference.index_search import IndexSearch
from llmrec.inference.item_similarity import SimilaritySpace, rank_similar_items
from llmrec.inference.live.new_state import get_history_limit
from llmrec.inference.live.users import LiveUsers
from llmrec.inference.log_users import AudienceMember, LogUsers, rank_audience
from llmrec.inference.queries import History, Item, QueryBatch, Time, check_equal_length, parse_histories, parse_time
from llmrec.inference.ranked_items import Filters, Recommendation, check_k, to_recommendations
from llmrec.inference.score_units import ScoreUnit
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.inference.text_queries import (
    HALF_LIFE_EVENTS,
    TEMPLATE,
    TopicShare,
    average_interest,
    build_score_bias,
    score_topics,
    sort_topics,
)
from llmrec.inference.user_similarity import SimilarUser, rank_similar_users
from llmrec.search.topk import TopK

Device: TypeAlias = "str | torch.device | None"


class Recommender:
    """Recommend items for histories and live users, and score, compare and explain items.

    A history is a list of events, oldest first: item ids, fields of items that are in no catalog (read by their text),
    or (item, time) pairs of either; or it is the id of a live user. A time is in seconds since 1970, a datetime or an
    ISO 8601 string, in UTC unless it says otherwise. `at` is the query time: events at or after it are left out; by
    default it is the time of the last event.

    Scores order the items for one history. With a drift head a score is the log-probability that the item is next,
    with counts as of `at` or of the newest event, whichever is later; without one it is a logit, and differences of
    scores are log-odds.

    Attributes:
        catalog: Items: add, remove, restore, label.
        live: Users whose events are observed: observe, history, forget, replay_log, save, load.
        index: Search for the best items: use.

    Example:
        recommender = Recommender.from_pretrained("runs/quickstart/bundle")
        recommender.recommend(["1", "260"], k=5, filters="genres~drama")
    """

    def __init__(
        self,
        bundle: Bundle,
        folder: Path,
        *,
        backbone: str | None = None,
        device: Device = None,
        log: Log | None = None,
    ) -> None:
        """Serve a loaded bundle; `from_pretrained` loads one.

        Args:
            bundle: Loaded bundle.
            folder: Folder of the bundle.
            backbone: A local copy of the base model, to encode new text without the hub.
            device: Where the model runs; unchanged if None.
            log: The training log; read when needed if None.
        """
        if device is not None:
            bundle.model.to(device)
        self._bundle = bundle
        self._log = log
        self.catalog = ServedCatalog(bundle, folder, backbone)
        self.live = LiveUsers(self.catalog, self.training_log)
        self.index = IndexSearch(self.catalog)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        backbone: str | None = None,
        device: Device = None,
        revision: str | None = None,
        token: Token = None,
        log: Log | None = None,
    ) -> Recommender:
        """Load and verify a bundle.

        Args:
            name: A folder, or OWNER/NAME on the Hugging Face hub.
            backbone: A local copy of the base model, to encode new text without the hub.
            device: Where the model runs; the CPU by default.
            revision: Branch, tag or commit on the hub.
            token: For private repositories; that of `hf auth login` by default.
            log: The training log, for a bundle that was trained on tables in memory; read when needed by default.

        Returns:
            The recommender.

        Raises:
            BundleError: If it is not a bundle, was altered, does not reproduce its scores, or cannot be fetched.
        """
        folder = resolve_bundle(name, revision, token)
        return cls(load_bundle(folder, backbone), folder, backbone=backbone, device=device, log=log)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the bundle as it is now, with its added and removed items and current counts, to a folder.

        Args:
            folder: Folder to write.
        """
        save_bundle(Path(folder), self._current_bundle())

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        token: Token = None,
        base_model_id: str | None = None,
        include_counts: bool = True,
    ) -> str:
        """Push the bundle as it is now to the hub in one commit, without users and local paths.

        Args:
            repo_id: OWNER/NAME, created if it does not exist.
            private: Visibility of a repository that is created.
            revision: Branch, created if it does not exist.
            token: That of `hf auth login` by default.
            base_model_id: Public name of a base model that was trained from a folder.
            include_counts: Include the event counts of a drift head.

        Returns:
            The address of the commit.

        Raises:
            BundleError: If the hub refuses; then nothing is published.
        """
        bundle = strip_private_paths(self._current_bundle(), base_model_id, include_counts)
        return push_bundle(bundle, repo_id, private, revision, token)

    @property
    def config(self) -> FinetuneConfig:
        """Settings that the bundle was trained with."""
        return self._bundle.config

    @property
    def backbone(self) -> TextBackbone:
        """Language model that encodes new text, loaded at first use."""
        return self.catalog.backbone

    @property
    def has_drift_head(self) -> bool:
        """If scores are log-probabilities of a drift head."""
        return self.catalog.drift is not None

    @property
    def score_unit(self) -> ScoreUnit:
        """Unit of scores: `log_probability` with a drift head, else `logit`."""
        return "log_probability" if self.has_drift_head else "logit"

    def training_log(self, data: DataConfig | None = None) -> Log:
        """Read the log that the bundle was trained on, or another one of its items.

        Args:
            data: Settings that replace those of the bundle.

        Returns:
            The log.

        Raises:
            DataError: If the log cannot be read, or is a path on the machine where a downloaded bundle was trained.
        """
        if data is not None:
            return load_own_log(self._bundle, self.catalog.folder, data)
        if self._log is None:
            self._log = load_own_log(self._bundle, self.catalog.folder)
        return self._log

    def recommend(
        self,
        history: History = (),
        *,
        k: int = 10,
        at: Time | None = None,
        include_seen: bool = False,
        query: str | None = None,
        filters: Filters | None = None,
        topic: str | None = None,
    ) -> list[Recommendation]:
        """Return the k items with the best scores.

        Args:
            history: Events or a live user; nothing for a new user, who gets what is popular.
            k: Number of items.
            at: Query time; items released later are left out.
            include_seen: Keep items of the history.
            query: What the user wants, in words; items with similar texts gain.
            filters: Items to choose from: a mask (N,), or conditions such as "category=Soap" or "genres~drama".
            topic: Choose from the tenth of the catalog that is most similar to these words.

        Returns:
            At most k items, best first.

        Raises:
            DataError: If an id is unknown or a time unreadable.
            ConfigError: If k is below 1, no item meets the filters, or words are empty.
            BundleError: If text is given to a recommender on ids alone.
        """
        return self.recommend_many(
            [history], k=k, at=at, include_seen=include_seen, query=query, filters=filters, topic=topic
        )[0]

    @torch.no_grad()
    def recommend_many(
        self,
        histories: Sequence[History],
        *,
        k: int = 10,
        at: Time | None = None,
        include_seen: bool = False,
        query: str | None = None,
        filters: Filters | None = None,
        topic: str | None = None,
    ) -> list[list[Recommendation]]:
        """Answer `recommend` for several histories in one pass.

        Args:
            histories: B histories.
            k: Number of items per history.
            at: Query time; items released later are left out.
            include_seen: Keep items of the history.
            query: What the users want, in words; items with similar texts gain.
            filters: Items to choose from, as in `recommend`.
            topic: Choose from the tenth of the catalog that is most similar to these words.

        Returns:
            At most k items for each history, best first.

        Raises:
            DataError: If an id is unknown or a time unreadable.
            ConfigError: If k is below 1, no item meets the filters, or words are empty.
            BundleError: If text is given to a recommender on ids alone.
        """
        check_k(k)
        with self.catalog.lock:
            bias = build_score_bias(self.catalog, at=at, query=query, filters=filters, topic=topic)
            batch = self._parse_histories(histories, at)
            best = self._rank(batch, min(k, max(len(self.catalog), 1)), bias, include_seen=include_seen)
            # A text query adds evidence, after which scores are no log-probabilities any more.
            unit = self.score_unit if query is None else "logit"
            return [to_recommendations(self.catalog.items, *row, unit) for row in zip(*best, strict=True)]

    @torch.no_grad()
    def recommend_users(
        self, users: LogUsers, *, k: int = 10, include_seen: bool = False, filters: Filters | None = None
    ) -> TopK:
        """Return the best items for users of a log.

        Args:
            users: U users.
            k: Number of items per user.
            include_seen: Keep items of the histories.
            filters: Items to choose from, as in `recommend`.

        Returns:
            Scores and rows, (U, k) each, best first; -inf where no item is left.

        Raises:
            ConfigError: If k is below 1 or no item meets the filters.
        """
        check_k(k)
        batch = QueryBatch(users.queries, [], np.full(len(users), -1, dtype=np.int64))
        with self.catalog.lock:
            bias = build_score_bias(self.catalog, at=int(users.queries.time.max(initial=0)), filters=filters)
            return self._rank(batch, k, bias, include_seen=include_seen)

    def score(self, history: History, items: Sequence[Item], *, at: Time | None = None) -> list[float]:
        """Score items for a history.

        Args:
            history: Events or a live user.
            items: Ids, or fields of new items such as {"title": ...}; {"text": ...} is read as it is.
            at: Query time.

        Returns:
            A log-probability for each item with a drift head, else a logit. A new item scores as if it were added.

        Raises:
            DataError: If an id is unknown.
            BundleError: If text is given to a recommender on ids alone.
        """
        return self.score_many([history], [items], at=at)[0]

    @torch.no_grad()
    def score_many(
        self, histories: Sequence[History], items: Sequence[Sequence[Item]], *, at: Time | None = None
    ) -> list[list[float]]:
        """Answer `score` for several histories in one pass.

        Args:
            histories: B histories.
            items: Items to score, a list for each history.
            at: Query time.

        Returns:
            A list of scores for each history.

        Raises:
            DataError: If an id is unknown, or the numbers of histories and lists differ.
            BundleError: If text is given to a recommender on ids alone.
        """
        check_equal_length(histories, items)
        with self.catalog.lock:
            batch, catalog = self._parse_histories(histories, at), self.catalog
            if catalog.drift is not None:
                return score_items(catalog, self.live, batch, items)
            states = catalog.scorer.encode_histories(batch.queries, catalog.cold_item_vectors(batch.texts))  # (B, D)
            scored = zip(states.unsqueeze(1), items, strict=True)
            return [self._bundle.model.score(state, *catalog.scoring_vectors(row))[0].tolist() for state, row in scored]

    def explain(self, history: History, item: Item, *, at: Time | None = None, tokens: bool = False) -> Explanation:
        """Explain the score of an item by parts that add up to it, by term and by event, and in a sentence.

        Args:
            history: Events or a live user.
            item: Id, or fields of a new item.
            at: Query time.
            tokens: Also attribute the score of the model to the tokens of the item's text (`llmrec[explain]`).

        Returns:
            The explanation.

        Raises:
            DataError: If the id is unknown.
            ConfigError: If tokens are requested and captum is not installed.
        """
        return self.explain_many([history], [item], at=at, tokens=tokens)[0]

    def explain_many(
        self, histories: Sequence[History], items: Sequence[Item], *, at: Time | None = None, tokens: bool = False
    ) -> list[Explanation]:
        """Answer `explain` for several histories, an item for each.

        Args:
            histories: B histories.
            items: B items.
            at: Query time.
            tokens: Also attribute the scores of the model to the tokens of the items' texts.

        Returns:
            An explanation for each history.

        Raises:
            DataError: If an id is unknown, or the numbers of histories and items differ.
            ConfigError: If tokens are requested and captum is not installed.
        """
        check_equal_length(histories, items)
        catalog = self.catalog
        with catalog.lock:
            live = self.live if self.has_drift_head else None
            scores = self.score_many(histories, [[item] for item in items], at=at)
            batches = [self._parse_histories([history], at) for history in histories]
            limit = get_history_limit(catalog)
            return [
                build_explanation(catalog, live, batch, item, limit, score, tokens)
                for batch, item, (score,) in zip(batches, items, scores, strict=True)
            ]

    def similar_items(
        self,
        item: Item,
        *,
        k: int = 10,
        by: SimilaritySpace = "text",
        catalog: ServedCatalog | None = None,
        at: Time | None = None,
    ) -> list[Recommendation]:
        """Return the k items most similar to an item.

        Args:
            item: Id, or fields of a new item.
            k: Number of items.
            by: "text" compares texts, "model" the vectors that the model has learned.
            catalog: Catalog of another recommender to search, by text.
            at: Items released later are left out.

        Returns:
            At most k items, best first; scores are cosines.

        Raises:
            DataError: If the id is unknown.
            ConfigError: If the two bundles cannot be compared.
        """
        return self.similar_items_many([item], k=k, by=by, catalog=catalog, at=at)[0]

    def similar_items_many(
        self,
        items: Sequence[Item],
        *,
        k: int = 10,
        by: SimilaritySpace = "text",
        catalog: ServedCatalog | None = None,
        at: Time | None = None,
    ) -> list[list[Recommendation]]:
        """Answer `similar_items` for several items.

        Args:
            items: Ids, or fields of new items.
            k: Number of similar items per item.
            by: "text" compares texts, "model" the vectors that the model has learned.
            catalog: Catalog of another recommender to search, by text.
            at: Items released later are left out.

        Returns:
            At most k items for each item, best first; scores are cosines.

        Raises:
            DataError: If an id is unknown.
            ConfigError: If k is below 1 or the two bundles cannot be compared.
        """
        check_k(k)
        others = self.catalog if catalog is None else catalog
        return [rank_similar_items(item, self.catalog, others, k=k, space=by, at=at) for item in items]

    def similar_users(
        self, user: History, *, k: int = 10, at: Time | None = None, log: Log | None = None
    ) -> list[SimilarUser]:
        """Return the k users of a log with the most similar interest.

        Args:
            user: Id of a user in the log, or a history.
            k: Number of users.
            at: Only events before this time count, of any user.
            log: The training log by default.

        Returns:
            At most k users, best first.

        Raises:
            ConfigError: If the user has no events before `at`, or k is below 1.
            DataError: If the history is unreadable or the log has other items.
        """
        return self.similar_users_many([user], k=k, at=at, log=log)[0]

    @torch.no_grad()
    def similar_users_many(
        self, users: Sequence[History], *, k: int = 10, at: Time | None = None, log: Log | None = None
    ) -> list[list[SimilarUser]]:
        """Answer `similar_users` for several users or histories in one pass over the log.

        Args:
            users: Ids of users in the log, or histories.
            k: Number of similar users per user.
            at: Only events before this time count, of any user.
            log: The training log by default.

        Returns:
            At most k users for each user, best first.

        Raises:
            ConfigError: If a user has no events before `at`, or k is below 1.
            DataError: If a history is unreadable or the log has other items.
        """
        check_k(k)
        log_users = self._get_log_users(log, at)
        states = torch.cat(list(log_users.iterate_states(self.catalog.scorer)))
        return [rank_similar_users(self.catalog, log_users, user, k, at, states) for user in users]

    def audience(
        self, item: Item, *, k: int = 10, at: Time | None = None, log: Log | None = None
    ) -> list[AudienceMember]:
        """Return the k users of a log whose next item this most probably is, without those who have it.

        Args:
            item: Id, or fields of a new item.
            k: Number of users.
            at: Only events before this time count, of any user.
            log: The training log by default.

        Returns:
            At most k users, best first.

        Raises:
            DataError: If the id is unknown or the log has other items.
            ConfigError: If no user has events before `at`, or k is below 1.
        """
        check_k(k)
        return rank_audience(self.catalog, self._get_log_users(log, at), item, k)

    def topics(
        self,
        history: History,
        labels: Sequence[str],
        *,
        at: Time | None = None,
        template: str = TEMPLATE,
        half_life_events: float = HALF_LIFE_EVENTS,
    ) -> list[TopicShare]:
        """Divide the interest of a history among labels: the weighted mean of the shares of its items.

        Args:
            history: Events or a live user.
            labels: At least two words or phrases.
            at: Query time.
            template: Text that is encoded for a label, such as "a {label} film".
            half_life_events: An event counts half as much as one that is this many events later.

        Returns:
            Labels with shares that add up to 1, the largest first.

        Raises:
            ConfigError: If there are no events before `at`, fewer than two labels, or no `{label}` in the template.
        """
        texts = self.catalog.history_text_vectors(self._parse_histories([history], at))
        shares = score_topics(self.catalog, texts, labels, template)
        return sort_topics(labels, average_interest(shares, half_life_events))

    def item_topics(
        self, items: Sequence[Item], labels: Sequence[str], *, template: str = TEMPLATE
    ) -> list[list[TopicShare]]:
        """Divide the text of each item among labels.

        Args:
            items: Ids, or fields of new items.
            labels: At least two words or phrases.
            template: Text that is encoded for a label, such as "a {label} film".

        Returns:
            For each item, labels with shares that add up to 1, the largest first.

        Raises:
            ConfigError: If there are fewer than two labels, or no `{label}` in the template.
            DataError: If an id is unknown.
        """
        shares = score_topics(self.catalog, self.catalog.text_vectors(items), labels, template)  # (C, L)
        return [sort_topics(labels, row) for row in shares]

    def _parse_histories(self, histories: Sequence[History], at: Time | None) -> QueryBatch:
        return parse_histories(self.catalog.items, histories, at, self.live.get_events)

    def _rank(self, batch: QueryBatch, k: int, bias: torch.Tensor, *, include_seen: bool) -> TopK:
        catalog, seen = self.catalog, None if include_seen else self.live.list_seen_pairs(batch)
        if catalog.drift is not None:
            return rank_by_log_probability(catalog, self.live, batch, k, seen, bias)
        states = catalog.scorer.encode_histories(batch.queries, catalog.cold_item_vectors(batch.texts))  # (B, D)
        return self.index.search(states, k, seen, bias)

    def _get_log_users(self, log: Log | None, at: Time | None) -> LogUsers:
        moment = None if at is None else parse_time(at)
        return LogUsers.from_log(self.training_log() if log is None else log, self.catalog.items, moment)

    def _current_bundle(self) -> Bundle:
        drift, removed = self.catalog.drift, tuple(sorted(self.catalog.removed))
        if drift is not None and drift.counts is not None and self.live.is_started:
            drift = replace(drift, counts=self.live.export_counts())
        return replace(self._bundle, catalog=self.catalog.items, drift=drift, removed=removed)
