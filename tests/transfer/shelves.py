"""A shelf of tiny starters, trained in seconds: one saw a shop, the other did not."""

from dataclasses import replace
from pathlib import Path

from habitue.model.pretrain import pretrain
from habitue.model.starter import Seen, save_starter, sketch
from habitue.sequences.batch import Corpus
from habitue.sequences.build import Sequences
from habitue.sequences.snapshots import take_snapshots
from habitue.simulation import ShopConfig
from tests.model.small import TINY
from tests.shops import sequences_of

KINDS = ("cart_added", "item_viewed", "order_placed", "order_refunded")
SEEN_SHOP = ShopConfig(shop="seen", customers=60, items=12, days=300, arrival_days=200)
OTHER_SHOP = ShopConfig(shop="other", customers=80, items=15, days=300, arrival_days=200)


def put_starter(shelf: Path, name: str, shop: Sequences) -> None:
    """Train a starter on one shop, and put it on the shelf."""
    corpus = Corpus(shop, take_snapshots(shop), max_events=32, kinds=KINDS)
    model = pretrain([corpus], replace(TINY, shop_dropout=0.1), kinds=KINDS, steps=4)
    seen = Seen(shop=shop.shop, last_event=int(shop.time.max()), sketch=sketch(shop))
    save_starter(model, [seen], shelf / name)


def shelf_of_two(shelf: Path) -> Path:
    """`first` saw the shop `seen`, `second` another."""
    put_starter(shelf, "first", sequences_of(SEEN_SHOP, 3))
    put_starter(shelf, "second", sequences_of(replace(SEEN_SHOP, shop="elsewhere"), 4))
    return shelf
