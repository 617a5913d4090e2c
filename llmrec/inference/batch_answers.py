"""Answers to several requests in one pass: recommendations, scores, explanations, similar items and users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from llmrec.data.log import Log
from llmrec.inference.drift_scoring import rank_by_log_probability, score_items
from llmrec.inference.explanations.explainer import build_explanation
from llmrec.inference.explanations.explanation import Explanation
from llmrec.inference.index_search import IndexSearch
from llmrec.inference.item_similarity import SimilaritySpace, rank_similar_items
from llmrec.inference.live.new_state import get_history_limit
from llmrec.inference.live.users import LiveUsers
from llmrec.inference.log_users import LogUsers
from llmrec.inference.queries import History, Item, QueryBatch, Time, check_equal_length, parse_histories, parse_time
from llmrec.inference.ranked_items import Filters, Recommendation, check_k, to_recommendations
from llmrec.inference.seen_gains import SeenGains
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.inference.text_queries import TEMPLATE, TopicShare, build_score_bias, score_topics, sort_topics
from llmrec.inference.user_similarity import SimilarUser, rank_similar_users
from llmrec.search.topk import TopK
from llmrec.utils.result_list import ResultList


@dataclass(frozen=True)
class BatchAnswers:
    """Answer several requests at once, each as the method of the same name of `Recommender` answers one.

    Options hold for all requests of a call and mean what they mean there.

    Example:
        recommender.batch.recommend(["ada", ["1", "260"], []], k=5)
    """

    catalog: ServedCatalog
    """Items and their vectors."""
    live: LiveUsers
    """Users whose events are observed."""
    index: IndexSearch
    """Search for the best items."""
    read_log: Callable[[], Log]
    """Reads the training log."""

    @torch.no_grad()
    def recommend(
        self,
        histories: Sequence[History],
        *,
        k: int = 10,
        at: Time | None = None,
        include_seen: bool | None = None,
        query: str | None = None,
        filters: Filters | None = None,
        topic: str | None = None,
    ) -> list[ResultList[Recommendation]]:
        """Return the k items with the best scores for each history.

        Args:
            histories: B histories or live users.
            k: Number of items per history.
            at: Query time.
            include_seen: Keep items of the history; None: as the evaluation of the bundle did.
            query: What the users want, in words.
            filters: Items to choose from.
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
            batch = self.parse(histories, at)
            best = self._rank(batch, min(k, max(len(self.catalog), 1)), bias, include_seen=include_seen)
            # A text query adds evidence, after which scores are no log-probabilities any more.
            unit = self.catalog.score_unit if query is None else "logit"
            return [to_recommendations(self.catalog.items, *row, unit=unit) for row in zip(*best, strict=True)]

    @torch.no_grad()
    def recommend_users(
        self, users: LogUsers, *, k: int = 10, include_seen: bool | None = None, filters: Filters | None = None
    ) -> TopK:
        """Return the best items for users of a log.

        Args:
            users: U users.
            k: Number of items per user.
            include_seen: Keep items of the histories; None: as the evaluation of the bundle did.
            filters: Items to choose from.

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

    @torch.no_grad()
    def score(
        self, histories: Sequence[History], items: Sequence[Sequence[Item]], *, at: Time | None = None
    ) -> list[list[float]]:
        """Score a list of items for each history.

        Args:
            histories: B histories or live users.
            items: Ids or fields of items to score, a list for each history.
            at: Query time.

        Returns:
            A list of scores for each history.

        Raises:
            DataError: If an id is unknown, or the numbers of histories and lists differ.
            BundleError: If text is given to a recommender on ids alone.
        """
        check_equal_length(histories, items)
        with self.catalog.lock:
            batch, catalog = self.parse(histories, at), self.catalog
            if catalog.drift is not None:
                return score_items(catalog, self.live, batch, items)
            states = catalog.scorer.encode_histories(batch.queries, catalog.cold_item_vectors(batch.texts))  # (B, D)
            scored, score = zip(states.unsqueeze(1), items, strict=True), catalog.bundle.model.score
            found = [score(state, *catalog.scoring_vectors(row))[0].cpu() for state, row in scored]
            gains = SeenGains.from_batch(catalog, self.live, batch)
            if gains is not None:
                found = [row + gains.of_items(place, items[place]) for place, row in enumerate(found)]
            return [row.tolist() for row in found]

    def explain(
        self, histories: Sequence[History], items: Sequence[Item], *, at: Time | None = None, tokens: bool = False
    ) -> list[Explanation]:
        """Explain the score of an item for each history.

        Args:
            histories: B histories or live users.
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
            live = self.live if catalog.drift is not None else None
            scores = self.score(histories, [[item] for item in items], at=at)
            batches = [self.parse([history], at) for history in histories]
            limit = get_history_limit(catalog)
            return [
                build_explanation(
                    catalog,
                    live,
                    batch,
                    item,
                    most=limit,
                    score=score,
                    gains=SeenGains.from_batch(catalog, self.live, batch),
                    tokens=tokens,
                )
                for batch, item, (score,) in zip(batches, items, scores, strict=True)
            ]

    def similar_items(
        self,
        items: Sequence[Item],
        *,
        k: int = 10,
        by: SimilaritySpace = "text",
        catalog: ServedCatalog | None = None,
        at: Time | None = None,
    ) -> list[ResultList[Recommendation]]:
        """Return the k items most similar to each item.

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

    @torch.no_grad()
    def similar_users(
        self, users: Sequence[History], *, k: int = 10, at: Time | None = None, log: Log | None = None
    ) -> list[ResultList[SimilarUser]]:
        """Return the k users of a log with the most similar interest to each user or history.

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
        log_users = self.find_log_users(log, at)
        states = torch.cat(list(log_users.iterate_states(self.catalog.scorer)))
        return [rank_similar_users(self.catalog, log_users, user, k, at=at, states=states) for user in users]

    def item_topics(
        self, items: Sequence[Item], labels: Sequence[str], *, template: str = TEMPLATE
    ) -> list[ResultList[TopicShare]]:
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

    def parse(self, histories: Sequence[History], at: Time | None) -> QueryBatch:
        """Turn histories and live users into one batch of queries.

        Args:
            histories: B histories or live users.
            at: Query time.

        Returns:
            The queries and the texts of items that are in no catalog.

        Raises:
            DataError: If an id is unknown or a time unreadable.
        """
        return parse_histories(self.catalog.items, histories, at=at, follow=self.live.get_events)

    def find_log_users(self, log: Log | None, at: Time | None) -> LogUsers:
        """Collect the users of a log that have events before a time.

        Args:
            log: The training log if None.
            at: Time; None counts all events.

        Returns:
            The users.

        Raises:
            ConfigError: If no user has events before `at`.
            DataError: If the log has events on items that the catalog lacks.
        """
        moment = None if at is None else parse_time(at)
        return LogUsers.from_log(self.read_log() if log is None else log, self.catalog.items, moment)

    def _rank(self, batch: QueryBatch, k: int, bias: torch.Tensor, *, include_seen: bool | None) -> TopK:
        catalog = self.catalog
        keep = catalog.recommends_seen if include_seen is None else include_seen
        seen = None if keep else self.live.list_seen_pairs(batch)
        if catalog.drift is not None:
            return rank_by_log_probability(catalog, self.live, batch, k, exclude=seen, bias=bias)
        states = catalog.scorer.encode_histories(batch.queries, catalog.cold_item_vectors(batch.texts))  # (B, D)
        gains = SeenGains.from_batch(catalog, self.live, batch) if keep else None
        if gains is not None:
            return self.index.search_with_gains(states, k, bias, gains)
        return self.index.search(states, k, seen, bias)
