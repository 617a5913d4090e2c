"""Small logs in the forms in which well-known ones are published: names of files, separators, columns, times, dirt."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

USERS, ITEMS, EVENTS = 6, 5, 20
START = 1_400_000_000  # 2014-05-13T16:53:20Z
DAY = 86_400


class Published(NamedTuple):
    """A log in its published form."""

    lay: Callable[[Path], object]
    """Writes the files to a folder."""
    text: str
    """Text of the first item."""
    n_events: int
    """Events that are read."""
    first_time: str
    """Time of the first event."""


def rows() -> list[tuple[int, int, int]]:
    """User, item and time of each event; pairs do not repeat."""
    return [(k % USERS + 1, k // USERS + 1 + k % 2, START + k * DAY) for k in range(EVENTS)]


def pack(path: Path, lines: Iterable[str], encoding: str = "utf-8") -> None:
    content = "".join(f"{line}\n" for line in lines).encode(encoding)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def as_json(records: Iterable[dict[str, Any]]) -> list[str]:
    return [json.dumps(record) for record in records]


def movielens_100k(folder: Path) -> None:
    pack(folder / "u.data", [f"{u}\t{i}\t3\t{t}" for u, i, t in rows()])
    flags = "|".join("01"[k == 2] for k in range(19))
    titles = ["Café Lumière (2003)", *(f'Film "{k}", The (199{k})' for k in range(2, ITEMS + 1))]
    lines = [f"{i}|{title}|01-Jan-1995||http://us.imdb.com/M/{i}|{flags}" for i, title in enumerate(titles, 1)]
    pack(folder / "u.item", [*lines, f"{ITEMS + 1}|unknown||||{flags}"], "latin-1")


def movielens_dat(encoding: str) -> Callable[[Path], None]:
    def lay(folder: Path) -> None:
        pack(folder / "ratings.dat", [f"{u}::{i}::5::{t}" for u, i, t in rows()])
        lines = [f"{i}::Film: Amélie {i} (2001)::Comedy|Romance" for i in range(1, ITEMS + 1)]
        pack(folder / "movies.dat", lines, encoding)
        if encoding == "utf-8":
            pack(folder / "tags.dat", ["1::1::nice::1215184630"])

    return lay


def movielens_csv(folder: Path) -> None:
    pack(folder / "ratings.csv", ["userId,movieId,rating,timestamp", *(f"{u},{i},4.0,{t}" for u, i, t in rows())])
    lines = [f'{i},"Film, The ""{i}"" (1995)",Adventure|Children' for i in range(1, ITEMS)]
    pack(folder / "movies.csv", ["movieId,title,genres", *lines, f"{ITEMS},Short (1990),(no genres listed)"])
    pack(folder / "links.csv", ["movieId,imdbId,tmdbId", "1,0114709,862"])
    pack(folder / "tags.csv", ["userId,movieId,tag,timestamp", "1,1,fun,1139045764"])


def amazon_review(user: int, item: int, time: int) -> dict[str, Any]:
    names = {"reviewerID": f"A{user}", "asin": f"B{item:09}", "reviewerName": "x", "helpful": [0, 0]}
    return names | {"reviewText": "good", "overall": 5.0, "unixReviewTime": time, "reviewTime": "05 13, 2014"}


def amazon_2014(folder: Path) -> None:
    pack(folder / "reviews_Beauty_5.json.gz", as_json(amazon_review(*row) for row in rows()))
    meta = [
        {"asin": f"B{i:09}", "title": f"Lotion &amp; Oil {i}", "price": 9.99, "imUrl": "http://x", "brand": "O'Neil",
         "categories": [["Beauty", "Skin Care"], ["Bath"]], "salesRank": {"Beauty": i}, "related": {"also_bought": []}}
        for i in range(1, ITEMS + 1)
    ]  # fmt: skip
    pack(folder / "meta_Beauty.json.gz", [repr(item) for item in [*meta, {"asin": "B000000099"}]])


def amazon_2018(folder: Path) -> None:
    reviews = (amazon_review(*row) | {"verified": True, "style": {"Size:": " 1"}} for row in rows())
    pack(folder / "Luxury_Beauty_5.json.gz", as_json(reviews))
    meta = [
        {"category": [] if i % 2 else ["Beauty"], "title": f"Balm <b>{i}</b>", "brand": "", "price": "$34.00",
         "asin": f"B{i:09}", "description": ["a", "b"],
         "details": {} if i % 2 else {"x": "y"}, "rank": [] if i % 2 else "3 in Beauty"}
        for i in range(1, ITEMS + 1)
    ]  # fmt: skip
    pack(folder / "meta_Luxury_Beauty.json.gz", as_json([*meta, meta[0]]))


def amazon_2023(folder: Path) -> None:
    reviews = (
        {"rating": 5.0, "title": "t", "text": "x", "images": [], "asin": f"C{i}", "parent_asin": f"B{i}",
         "user_id": f"A{u}", "timestamp": t * 1000 + 123, "helpful_vote": 0, "verified_purchase": True}
        for u, i, t in rows()
    )  # fmt: skip
    pack(folder / "All_Beauty.jsonl.gz", as_json(reviews))
    prices = (None, 12.99, "from 14.99", "—")
    meta = [
        {"main_category": "All Beauty", "title": f"Serum {i}", "price": prices[i % 4],
         "store": None if i % 2 else "Acme", "categories": [],
         "details": {} if i % 2 else {"UPC": "1"}, "images": [{"thumb": None, "variant": {}}],
         "parent_asin": f"B{i}", "average_rating": 4.5, "features": ["soft"], "bought_together": None}
        for i in range(1, ITEMS + 1)
    ]  # fmt: skip
    pack(folder / "meta_All_Beauty.jsonl.gz", as_json(meta))


def yelp(folder: Path) -> None:
    reviews = (
        {"review_id": f"r{u}-{i}", "user_id": f"u{u}", "business_id": f"b{i}", "stars": 5.0, "useful": 0, "text": "x",
         "date": f"2018-07-{k + 1:02} 22:09:11"}
        for k, (u, i, _) in enumerate(rows())
    )  # fmt: skip
    pack(folder / "yelp_academic_dataset_review.json", as_json(reviews))
    places = (
        {"business_id": f"b{i}", "name": f"Café {i}", "city": "Reno", "state": "NV", "categories": "Food, Coffee & Tea",
         "attributes": {"WiFi": "u'free'"} if i % 2 else None, "hours": None, "postal_code": "0123"}
        for i in range(1, ITEMS + 1)
    )  # fmt: skip
    pack(folder / "yelp_academic_dataset_business.json", as_json(places))


def steam(folder: Path) -> None:
    reviews = (f"{{u'username': u'né{u}', u'product_id': u'{i}', u'page': 1, u'date': u'2017-12-{k + 1:02}'}}"
               for k, (u, i, _) in enumerate(rows()))  # fmt: skip
    pack(folder / "steam_reviews.json.gz", reviews)
    games = [{"app_name": f"Game's {i}", "genres": ["Action", "Indie"], "tags": ["Strategy"], "developer": "Kot",
              "id": str(i), "price": 4.99 if i % 2 else "Free To Play"} for i in range(1, ITEMS + 1)]  # fmt: skip
    pack(folder / "steam_games.json.gz", [repr(game) for game in [*games, {"app_name": "no id"}]])


def goodreads(folder: Path) -> None:
    shelved = (
        {"user_id": f"u{u}", "book_id": str(i), "is_read": True, "rating": 4, "read_at": "", "started_at": "",
         "date_added": f"Thu Aug {k + 1:02} 13:41:57 -0700 2013"}
        for k, (u, i, _) in enumerate(rows())
    )  # fmt: skip
    pack(folder / "goodreads_interactions_poetry.json.gz", as_json(shelved))
    books = ({"book_id": str(i), "title": f"Poems {i}", "description": "", "popular_shelves": [{"count": "1"}],
              "authors": [{"author_id": "1", "role": ""}], "series": []} for i in range(1, ITEMS + 1))  # fmt: skip
    pack(folder / "goodreads_books_poetry.json.gz", as_json(books))


def mind(folder: Path) -> None:
    for part, half in (("MINDsmall_train", rows()[:10]), ("MINDsmall_dev", rows()[10:])):
        lines = [f"{k}\tU{u}\t11/{13 + k % 9}/2019 9:05:58 AM\tN77 N78\tN99-0 N{i}-1 N98-0"
                 for k, (u, i, _) in enumerate(half)]  # fmt: skip
        pack(folder / part / "behaviors.tsv", lines)
        news = [
            f'N{i}\tnews\tnewsus\t"Quoted" title {i}\t\thttps://x\t[{{"Label": "a"}}]\t[]' for i in range(1, ITEMS + 1)
        ]
        pack(folder / part / "news.tsv", news)


def hm(folder: Path) -> None:
    bought = [f"2018-09-{k + 1:02},{u:064x},0{i:09},0.05,2" for k, (u, i, _) in enumerate(rows())]
    pack(folder / "transactions_train.csv", ["t_dat,customer_id,article_id,price,sales_channel_id", *bought])
    head = "article_id,product_code,prod_name,product_type_name,colour_group_name,detail_desc"
    articles = [f'0{i:09},{i},Strap top {i},Vest top,Black,"Jersey top, narrow straps."' for i in range(1, ITEMS + 1)]
    pack(folder / "articles.csv", [head, *articles])
    pack(folder / "customers.csv", ["customer_id,FN", f"{1:064x},1"])


def lastfm_1k(folder: Path) -> None:
    plays = [f"user_{u:06}\t2009-05-{k + 1:02}T23:08:57Z\t{'' if i % 2 else 'mbid'}\tThe \"{i}\" Band\t\tSong"
             for k, (u, i, _) in enumerate(rows())]  # fmt: skip
    torn = "user_000001\t2009-05-01T23:08:57Z\t\tBand\t\tSong\twith\ttabs"
    pack(folder / "userid-timestamp-artid-artname-traid-traname.tsv", [*plays[:3], torn, *plays[3:]])


def lastfm_2k(folder: Path) -> None:
    lines = [f"{u}\t{i}\t7\t{t * 1000}" for u, i, t in rows()]
    pack(
        folder / "user_taggedartists-timestamps.dat",
        ["userID\tartistID\ttagID\ttimestamp", *lines, "2\t5\t1\t-428720400000"],
    )
    artists = [
        f"{i}\tSigur Rós {i}\thttp://www.last.fm/music/{i}\thttp://userserve-ak/{i}.jpg" for i in range(1, ITEMS + 1)
    ]
    pack(folder / "artists.dat", ["id\tname\turl\tpictureURL", *artists])


def retailrocket(folder: Path) -> None:
    seen = [f"{t * 1000},{u},view,{i}," for u, i, t in rows()]
    pack(folder / "events.csv", ["timestamp,visitorid,event,itemid,transactionid", *seen])
    head = "timestamp,itemid,property,value"
    pack(
        folder / "item_properties_part1.csv",
        [head, *(f"1433041200000,{i},categoryid,133{i}" for i in range(1, ITEMS + 1))],
    )
    later = [f"1433646000000,{i},888,1116713 n277.200" for i in range(1, ITEMS + 1)]
    pack(
        folder / "item_properties_part2.csv", [head, *later, "1433646000000,1,categoryid,9", "1433646000000,1,790,n1.0"]
    )


def food_com(folder: Path) -> None:
    reviews = [f'{u},{i},2003-02-{k + 1:02},4,"Great, with ""salt"""' for k, (u, i, _) in enumerate(rows())]
    pack(folder / "RAW_interactions.csv", ["user_id,recipe_id,date,rating,review", *reviews])
    head = "name,id,minutes,submitted,tags,n_steps,ingredients"
    dishes = [
        f"soup {i},{i},55,2005-09-16,\"['easy']\",11,\"['winter squash', 'mexican seasoning']\""
        for i in range(1, ITEMS + 1)
    ]
    pack(folder / "RAW_recipes.csv", [head, *dishes])


def kuairec(folder: Path) -> None:
    head = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio"
    seen = [f"{u},{i},13838,10867,2020-07-05 05:27:48.378,20200705,{t}.378,1.27" for u, i, t in rows()]
    pack(folder / "data" / "big_matrix.csv", [head, *seen, "1,5,1,1,,,,0.5"])
    names = "first_level_category_id,first_level_category_name,second_level_category_id,second_level_category_name"
    clips = [f"{i},UNKNOWN,看电影 {i},[电影],8,颜值,673,UNKNOWN" for i in range(1, ITEMS + 1)]
    clips[-1] = clips[-1].replace(f"看电影 {ITEMS}", '"two ""lines""\nof one"')
    lines = [f"video_id,manual_cover_text,caption,topic_tag,{names}", *clips, "6,a,b,c,d"]
    pack(folder / "data" / "kuairec_caption_category.csv", lines)


SECONDS = "2014-05-13T16:53:20Z"
LOGS = {
    "movielens_100k": Published(movielens_100k, "Café Lumière (2003)", EVENTS, SECONDS),
    "movielens_1m": Published(
        movielens_dat("latin-1"), "Film: Amélie 1 (2001). Genres: Comedy, Romance", EVENTS, SECONDS
    ),
    "movielens_10m": Published(
        movielens_dat("utf-8"), "Film: Amélie 1 (2001). Genres: Comedy, Romance", EVENTS, SECONDS
    ),
    "movielens_csv": Published(movielens_csv, 'Film, The "1" (1995). Genres: Adventure, Children', EVENTS, SECONDS),
    "amazon_2014": Published(
        amazon_2014, "Lotion & Oil 1. Brand: O'Neil. Categories: Beauty, Skin Care, Bath", EVENTS, SECONDS
    ),
    "amazon_2018": Published(amazon_2018, "Balm 1", EVENTS, SECONDS),
    "amazon_2023": Published(amazon_2023, "Serum 1", EVENTS, SECONDS),
    "yelp": Published(yelp, "Café 1. Categories: Food, Coffee & Tea. City: Reno, NV", EVENTS, "2018-07-01T22:09:11Z"),
    "steam": Published(
        steam, "Game's 1. Genres: Action, Indie. Tags: Strategy. Developer: Kot", EVENTS, "2017-12-01T00:00:00Z"
    ),
    "goodreads": Published(goodreads, "Poems 1", EVENTS, "2013-08-01T20:41:57Z"),
    "mind": Published(mind, '"Quoted" title 1. Category: news, newsus', EVENTS, "2019-11-13T09:05:58Z"),
    "hm": Published(
        hm, "Strap top 1. Type: Vest top. Color: Black. Jersey top, narrow straps.", EVENTS, "2018-09-01T00:00:00Z"
    ),
    "lastfm_1k": Published(lastfm_1k, 'The "1" Band', EVENTS, "2009-05-01T23:08:57Z"),
    "lastfm_2k": Published(lastfm_2k, "Sigur Rós 1", EVENTS, SECONDS),
    "retailrocket": Published(retailrocket, "Category 1331. 1116713 n277.200", EVENTS, SECONDS),
    "food_com_raw": Published(
        food_com, "soup 1. Ingredients: winter squash, mexican seasoning", EVENTS, "2003-02-01T00:00:00Z"
    ),
    "kuairec": Published(kuairec, "看电影 1. Tags: [电影]. Category: 颜值", EVENTS, SECONDS),
}
