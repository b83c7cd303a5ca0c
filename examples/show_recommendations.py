"""A page that shows recommendations, and tells which of them were seen.

Starts the service over an empty folder, sends what a small shop sells and sold, and plays the
shop's own web server: it asks for lists with the secret key, which never leaves it, and renders
them. The page's few lines of JavaScript tell, with the public key, what came into view and what was
clicked.

    python examples/show_recommendations.py FOLDER            # writes FOLDER/page.html, and ends
    python examples/show_recommendations.py FOLDER --stay     # … and shows it until it is stopped
"""

import html
import http.server
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx

from habitue.config import utc_now

ITEMS = {
    "mug": "Stoneware mug", "teapot": "Iron teapot", "kettle": "Copper kettle",
    "tea": "Assam tea, 500 g", "honey": "Lime honey", "tray": "Oak tray", "spoon": "Tea spoon",
    "sugar": "Cane sugar",
}  # fmt: skip
CUSTOMERS, WAIT_SECONDS = 60, 90.0
CUSTOMER, PAGE, CART = "customer-10", "teapot", ("honey",)

Read = TypeVar("Read")

# what is in braces is filled in by `rendered`; JavaScript's own are doubled
TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 44rem; color: #222; }}
  .shelf {{ display: grid; grid-template-columns: repeat(4, 1fr); gap: 1rem; padding: 0; }}
  .shelf li {{ list-style: none; border: 1px solid #ddd; border-radius: .5rem; padding: 1rem; }}
  .shelf small {{ color: #777; display: block; }}
</style>
<h1>{title}</h1>
<h2>Goes well with it</h2>
<ul class="shelf" data-list="{list_id}">
{items}
</ul>
<script>
  const told = (path, body) => fetch("{address}" + path, {{
    method: "POST", keepalive: true, body: JSON.stringify(body),
    headers: {{"Content-Type": "application/json", "X-Habitue-Key": "{public}"}},
  }});
  const customer = "{customer}";
  for (const shelf of document.querySelectorAll(".shelf")) {{
    const seen = new IntersectionObserver((entries) => {{
      if (!entries.some((entry) => entry.isIntersecting)) return;
      seen.disconnect();                 // once for each list
      const items = [...shelf.children].map((one) => one.dataset.item);
      const list_id = shelf.dataset.list;
      told("/v1/impressions", {{list_id, customer, items, slot: "product page"}});
    }}, {{threshold: 0.5}});
    seen.observe(shelf);
    shelf.addEventListener("click", (event) => {{
      const item = event.target.closest("li")?.dataset.item;
      if (item) told("/v1/events", {{name: "item_viewed", customer, item}});
    }});
  }}
</script>
</html>
"""


def main(folder: Path, *, stays: bool = False) -> None:
    """Write the page, or show it."""
    with running(folder / "work") as (ours, told):
        send_a_past(ours)
        listed = until(lambda: recommendations(ours))
        page = rendered(listed, told["listening"], told["keys"]["public"])
        (folder / "page.html").write_text(page)
        for one in listed["items"]:
            print(f"{one['rank']}. {one['title']}: {one['evidence']}")
        if stays:
            show(lambda: rendered(recommendations(ours), told["listening"], told["keys"]["public"]))
        else:                              # what the page would tell
            shown = {
                "list_id": listed["list_id"], "customer": CUSTOMER, "slot": "product page",
                "items": [one["item"] for one in listed["items"]],
            }  # fmt: skip
            headers = {"X-Habitue-Key": told["keys"]["public"]}
            answer = ours.post("/v1/impressions", json=shown, headers=headers)
            print(f"shown: {answer.raise_for_status().json()['accepted']} list")


def recommendations(ours: httpx.Client) -> dict[str, Any] | None:
    """Four items for the customer on this page; none: nothing is known yet."""
    asked: dict[str, str | int] = {"k": 4, "item": PAGE, "cart": ",".join(CART)}
    answer = ours.get(f"/v1/customers/{CUSTOMER}/recommendations", params=asked)
    listed: dict[str, Any] = answer.raise_for_status().json()
    return listed if len(listed["items"]) == 4 and listed.get("scored") else None


def rendered(listed: dict[str, Any] | None, address: str, public: str) -> str:
    """The page as the shop's web server sends it; it never holds the secret key."""
    assert listed is not None, "the shop was scored"
    items = "\n".join(
        f'  <li data-item="{html.escape(one["item"])}">{html.escape(one["title"])}'
        f"<small>{html.escape(one['evidence'])}</small></li>"
        for one in listed["items"]
    )
    return TEMPLATE.format(
        title=html.escape(ITEMS[PAGE]), list_id=html.escape(listed["list_id"]), items=items,
        address=address, public=public, customer=CUSTOMER,
    )  # fmt: skip


def send_a_past(ours: httpx.Client) -> None:
    """What the shop sells, and what its customers ordered in the last year."""
    random.seed(7)
    records: list[dict[str, Any]] = [
        {"kind": "item", "item": code, "title": title, "stock": 10, "category": "tea things"}
        for code, title in ITEMS.items()
    ]
    for number in range(CUSTOMERS):
        for order in range(random.randint(1, 6)):
            some = random.sample([one for one in ITEMS if one != "sugar"], 2)
            lines = [{"item": one, "quantity": 1, "unit_price": 12} for one in some]
            at = utc_now() - timedelta(days=random.uniform(1, 365))
            records.append(
                {"name": "order_placed", "customer": f"customer-{number}", "value": 24,
                 "currency": "GBP", "id": f"{number}-{order}", "time": at.isoformat(),
                 "lines": lines}
            )  # fmt: skip
    ours.post("/v1/events", json=records).raise_for_status()


def show(page: Callable[[], str]) -> None:
    """Serve the page, made anew for each visit, until it is stopped."""

    class Shop(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page().encode())

    with http.server.HTTPServer(("127.0.0.1", 0), Shop) as server:
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        server.serve_forever()


def until(holds: Callable[[], Read | None]) -> Read:
    """What holds at last."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (found := holds()) is None:
        if time.monotonic() > deadline:
            sys.exit("it did not come to hold in time")
        time.sleep(0.1)
    return found


@contextmanager
def running(work: Path) -> Iterator[tuple[httpx.Client, dict[str, Any]]]:
    """A service over the workspace, asked with the secret key, until the block ends."""
    serve = ["habitue.cli.app", "serve", "--workspace", str(work), "--port", "0"]
    command = [sys.executable, "-m", *serve, "--shop", "acme", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as service:
        assert service.stdout is not None
        told = json.loads(service.stdout.readline())
        headers = {"X-Habitue-Key": told["keys"]["secret"]}
        try:
            with httpx.Client(
                base_url=told["listening"], headers=headers, trust_env=False, timeout=30
            ) as ours:
                yield ours, told
        finally:
            service.terminate()


if __name__ == "__main__":
    main(Path(sys.argv[1]), stays="--stay" in sys.argv)
