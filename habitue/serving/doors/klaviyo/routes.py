"""Every path of Klaviyo's."""

from habitue.serving.app import Route
from habitue.serving.doors.klaviyo import profiles, writes

ROUTES: tuple[Route, ...] = (*writes.ROUTES, *profiles.ROUTES)
