"""What did we know, and when? One query, as of different instants."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import habitue

ORDERS = """\
customer,order,time,item,quantity,unit_price
ann,1,2024-01-05T10:00:00Z,mug,2,4.50
ann,2,2024-03-02T09:30:00Z,bowl,1,12.00
bob,3,2024-02-11T17:45:00Z,mug,1,4.50
"""
MAPPING = """\
kind = "order_lines"

[fields]
customer = "customer"
order = "order"
time = "time"
item = "item"
quantity = "quantity"
unit_price = "unit_price"
currency = "=GBP"
"""
# one row: what the shop had sold
SOLD = "SELECT count(*) AS orders, sum(value_minor) / 100 AS value FROM orders"


def main(folder: Path) -> None:
    """Import three orders into a workspace in `folder`, and ask for the state at two instants."""
    (folder / "orders.csv").write_text(ORDERS)
    (folder / "orders.toml").write_text(MAPPING)
    shop = habitue.open(folder / "work").shop("acme")
    receipt = shop.ingest(folder / "orders.csv", folder / "orders.toml")
    print(f"appended {receipt.appended} of {receipt.rows} rows")
    for cutoff in (datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC)):
        (row,) = shop.query(SOLD, cutoff=cutoff).to_pylist()
        print(f"{cutoff:%Y-%m-%d}: {row['orders']} orders, {row['value']:.2f} GBP")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
