"""Load on a server of which parts die: who was cut off asks once more, and no more."""

import threading

import httpx


class Load:
    """Threads that read and send until they are told to stop; each tries once more, and no more."""

    def __init__(self, server) -> None:
        self.server, self.over = server, threading.Event()
        self.reads, self.retried, self.failed = 0, 0, []
        self.receipts: list[str] = []

    def read(self) -> None:
        while not self.over.is_set():
            with self.server.client() as client:
                for _ in range(20):
                    told = self.twice(lambda: client.get("/v1/status"))
                    self.reads += told is not None

    def send(self, who: int) -> None:
        number = 0
        while not self.over.is_set():
            event = {"name": "x", "customer": f"c{who}", "id": f"{who}-{number}"}
            number += 1
            with self.server.client() as client:
                told = self.twice(lambda: client.post("/v1/events", json=event))  # noqa: B023
            if told is not None:
                self.receipts.append(told.json()["id"])

    def twice(self, ask) -> httpx.Response | None:
        for attempt in range(2):
            try:
                told = ask()
                if told.status_code < 500:
                    return told
                failure = told.text
            except httpx.TransportError as error:
                failure = repr(error)
            self.retried += attempt == 0
        self.failed.append(failure)
        return None
