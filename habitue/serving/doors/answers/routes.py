"""Every path of our own that is answered from the book."""

from habitue.serving.app import Route
from habitue.serving.doors.answers import lists, model, people, questions, timeline, why

ROUTES: tuple[Route, ...] = (
    *people.ROUTES, *lists.ROUTES, *why.ROUTES, *questions.ROUTES,
    *timeline.ROUTES, *model.ROUTES,
)  # fmt: skip
