"""Every path of our own that is answered from the book."""

from habitue.serving.app import Route
from habitue.serving.doors.answers import lists, people

ROUTES: tuple[Route, ...] = (*people.ROUTES, *lists.ROUTES)
