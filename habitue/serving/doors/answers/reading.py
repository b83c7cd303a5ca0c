"""The book that answers are read from, opened when first asked for."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from habitue.serving.answers.book import Book

Found = TypeVar("Found")


class Reading:
    """The book of answers, opened when first asked for, since it loads much."""

    def __init__(self, online: Path) -> None:
        self._online = online
        self._book: Book | None = None
        self._opening = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether nobody who asks has to wait for it."""
        return self._book is not None

    async def open(self) -> "Book":
        """The book; the first call takes a moment."""
        async with self._opening:
            if self._book is None:
                self._book = await asyncio.to_thread(_open, self._online)
        return self._book

    async def ask(self, question: "Callable[[Book], Found]") -> Found:
        """Ask in a thread, so that no other request waits for the disk."""
        book = self._book or await self.open()
        return await asyncio.to_thread(question, book)

    def close(self) -> None:
        """Give the files back."""
        if self._book is not None:
            self._book.close()


def _open(online: Path) -> "Book":
    from habitue.serving.answers.book import Book

    return Book(online)
