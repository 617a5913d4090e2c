"""Recommender: a trained bundle in use. Histories and items in, scores and recommendations out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from llmrec.data.log import Log
from llmrec.hub.bundle import Bundle, load_bundle, save_bundle
from llmrec.hub.bundle_summary import format_summary, format_summary_html
from llmrec.hub.remote import Token, push_bundle, resolve_bundle, strip_private_paths
from llmrec.hub.training_log import TrainingLog
from llmrec.inference.batch_answers import BatchAnswers
from llmrec.inference.explanations.explanation import Explanation
from llmrec.inference.index_search import IndexSearch
from llmrec.inference.item_similarity import SimilaritySpace
from llmrec.inference.live.users import LiveUsers
from llmrec.inference.log_users import AudienceMember, rank_audience
from llmrec.inference.queries import History, Item, Time
from llmrec.inference.ranked_items import Filters, Recommendation
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.inference.text_queries import HALF_LIFE_EVENTS, TEMPLATE, TopicShare, divide_interest
from llmrec.inference.user_similarity import SimilarUser
from llmrec.utils.result_list import ResultList


class Recommender:
    """Recommend items for histories and live users, and score, compare and explain items.

    A history is a list of events, oldest first: item ids, fields of items that are in no catalog (read by their text),
    or (item, time) pairs of either; or it is the id of a live user. A time is in seconds since 1970, a datetime or an
    ISO 8601 string, in UTC by default. Events from the query time `at` on, by default the last event's, are left out.
    With a drift head, scores are log-probabilities as of `at` or the newest event; else logits (differences: log-odds).

    Attributes:
        config: Settings that the bundle was trained with.
        training_log: The log that the bundle was trained on: read.
        catalog: Items: add, remove, restore, label.
        live: Users whose events are observed: observe, history, forget, replay_log, save, load.
        index: Search for the best items: use.

    Example:
        recommender = Recommender.from_pretrained("runs/quickstart/bundle")
        recommender.recommend([("1", "2016-01-03"), ("260", "2016-02-01")], k=5, filters="genres~drama")
        recommender.score(["1", "260"], ["2571", {"title": "Orbit of Ashes", "genres": "Sci-Fi"}])
        recommender.explain(["1", "260"], "2571").sentence
        recommender.similar_items("2571", k=3)
        recommender.similar_users("15", k=3)
        recommender.audience({"text": "Orbit of Ashes (2031). Genres: Sci-Fi"}, k=3)
        recommender.topics(["1", "260"], ["comedy", "science fiction"], template="a {label} film")
    """

    def __init__(self, bundle: Bundle, folder: Path, *, backbone: str | None = None, log: Log | None = None) -> None:
        self.config = bundle.config
        self.catalog = ServedCatalog(bundle, folder, backbone=backbone)
        self.training_log = TrainingLog(bundle, folder, log=log)
        self.live = LiveUsers(self.catalog, self.training_log.read)
        self.index = IndexSearch(self.catalog)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        backbone: str | None = None,
        device: str | torch.device | None = None,
        revision: str | None = None,
        token: Token = None,
    ) -> Recommender:
        """Load and verify a bundle.

        Args:
            name: A folder, or OWNER/NAME on the Hugging Face hub.
            backbone: A local copy of the base model, to encode new text without the hub.
            device: Where the model runs; the CPU by default.
            revision: Branch, tag or commit on the hub.
            token: For private repositories; that of `hf auth login` by default.

        Returns:
            The recommender.

        Raises:
            BundleError: If it is not a bundle, was altered, does not reproduce its scores, or cannot be fetched.
        """
        folder = resolve_bundle(name, revision, token=token)
        bundle = load_bundle(folder, backbone)
        bundle.model.to(device)
        return cls(bundle, folder, backbone=backbone)

    @property
    def batch(self) -> BatchAnswers:
        """Answers to several requests in one pass: recommend, score, explain, similar_items, similar_users."""
        return BatchAnswers(self.catalog, self.live, self.index, self.training_log.read)

    def __repr__(self) -> str:
        return format_summary(self.catalog.folder, self.catalog.export_bundle())

    def _repr_html_(self) -> str:
        return format_summary_html(self.catalog.folder, self.catalog.export_bundle())

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the bundle as it is now, with its added and removed items and current counts, to a folder.

        Args:
            folder: Folder to write.
        """
        save_bundle(Path(folder), self.catalog.export_bundle(self.live.export_counts()))

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
        now = self.catalog.export_bundle(self.live.export_counts())
        shared = strip_private_paths(now, base_model_id, counts=include_counts)
        return push_bundle(shared, repo_id, private=private, revision=revision, token=token)

    def recommend(
        self,
        history: History = (),
        *,
        k: int = 10,
        at: Time | None = None,
        include_seen: bool | None = None,
        query: str | None = None,
        filters: Filters | None = None,
        topic: str | None = None,
    ) -> ResultList[Recommendation]:
        """Return the k items with the best scores.

        Args:
            history: Events or a live user; nothing for a new user, who gets what is popular.
            k: Number of items.
            at: Query time; items released later are left out.
            include_seen: Keep items of the history; None: as the evaluation of the bundle ranked them.
            query: What the user wants, in words; items with similar texts gain.
            filters: Items to choose from: a mask (N,), or conditions such as "category=Soap" or "genres~drama".
            topic: Choose from the tenth of the catalog that is most similar to these words.

        Returns:
            At most k items, best first.

        Raises:
            DataError: If an id is unknown or a time unreadable.
            ConfigError: If k is below 1, no item meets the filters, or words are empty.
        """
        return self.batch.recommend(
            [history], k=k, at=at, include_seen=include_seen, query=query, filters=filters, topic=topic
        )[0]

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
        """
        return self.batch.score([history], [items], at=at)[0]

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
        return self.batch.explain([history], [item], at=at, tokens=tokens)[0]

    def similar_items(
        self,
        item: Item,
        *,
        k: int = 10,
        by: SimilaritySpace = "text",
        catalog: ServedCatalog | None = None,
        at: Time | None = None,
    ) -> ResultList[Recommendation]:
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
        return self.batch.similar_items([item], k=k, by=by, catalog=catalog, at=at)[0]

    def similar_users(
        self, user: History, *, k: int = 10, at: Time | None = None, log: Log | None = None
    ) -> ResultList[SimilarUser]:
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
        return self.batch.similar_users([user], k=k, at=at, log=log)[0]

    def audience(
        self, item: Item, *, k: int = 10, at: Time | None = None, log: Log | None = None
    ) -> ResultList[AudienceMember]:
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
        return rank_audience(self.catalog, self.batch.find_log_users(log, at), item, k)

    def topics(
        self,
        history: History,
        labels: Sequence[str],
        *,
        at: Time | None = None,
        template: str = TEMPLATE,
        half_life_events: float = HALF_LIFE_EVENTS,
    ) -> ResultList[TopicShare]:
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
        texts = self.catalog.history_text_vectors(self.batch.parse([history], at))
        return divide_interest(self.catalog, texts, labels, template, half_life_events=half_life_events)
