"""Which request each translator reads: its method and path, and the status of a success.

Where there is no path, as in a queue, the document's type says which request it would be.
"""

from dataclasses import dataclass

import msgspec

from habitue.ingest.doors.intake import Door, Intake, Translator
from habitue.ingest.doors.klaviyo import catalog, consents, events, profiles
from habitue.ingest.doors.klaviyo.problems import Refused
from habitue.ingest.doors.klaviyo.reading import document


@dataclass(frozen=True, slots=True)
class Route:
    """A request that writes something."""

    method: str
    path: str                              # `{id}` stands for an id that the body holds, too
    translate: Translator
    status: int                            # of a success; 201 where the answer shows a resource

    @property
    def is_public(self) -> bool:
        """Whether it takes a public key, in the query as `company_id`."""
        return self.path.startswith("/client/")


def _bulk(kind: str) -> tuple[Route, ...]:
    path = f"/api/catalog-{kind}"
    return (
        Route("POST", f"{path}s", catalog.create_item, 201),
        Route("PATCH", f"{path}s/{{id}}", catalog.update_item, 200),
        Route("POST", f"{path}-bulk-create-jobs", catalog.create_items, 202),
        Route("POST", f"{path}-bulk-update-jobs", catalog.update_items, 202),
        Route("POST", f"{path}-bulk-delete-jobs", catalog.delete_items, 202),
    )


# DELETE of a catalogue item has no body: `catalog.delete_item`
ROUTES = (
    Route("POST", "/api/events", events.create_event, 202),
    Route("POST", "/api/event-bulk-create-jobs", events.create_events, 202),
    Route("POST", "/client/events", events.create_event, 202),
    Route("POST", "/client/event-bulk-create", events.create_client_events, 202),
    Route("POST", "/api/profile-import", profiles.tell_profile, 201),
    Route("POST", "/api/profiles", profiles.tell_profile, 201),
    Route("PATCH", "/api/profiles/{id}", profiles.tell_profile, 200),
    Route("POST", "/client/profiles", profiles.tell_profile, 202),
    Route("POST", "/api/profile-bulk-import-jobs", profiles.tell_profiles, 202),
    Route("POST", "/api/profile-merge", profiles.merge_profiles, 201),
    Route("POST", "/client/subscriptions", consents.subscribe_client, 202),
    Route("POST", "/api/profile-subscription-bulk-create-jobs", consents.subscribe, 202),
    Route("POST", "/api/profile-subscription-bulk-delete-jobs", consents.unsubscribe, 202),
    *_bulk("item"),
    *_bulk("variant"),
)

# type of a document -> who reads it; what updates and what makes a catalogue item is alike
_BY_TYPE: dict[str, Translator] = {
    "event": events.create_event,
    "event-bulk-create-job": events.create_events,
    "profile": profiles.tell_profile,
    "profile-bulk-import-job": profiles.tell_profiles,
    "profile-merge": profiles.merge_profiles,
    "profile-subscription-bulk-create-job": consents.subscribe,
    "profile-subscription-bulk-delete-job": consents.unsubscribe,
    "subscription": consents.subscribe_client,
    **{
        f"catalog-{kind}{ending}": translate
        for kind in ("item", "variant")
        for ending, translate in (
            ("", catalog.create_item),
            ("-bulk-create-job", catalog.create_items),
            ("-bulk-update-job", catalog.update_items),
            ("-bulk-delete-job", catalog.delete_items),
        )
    },
}


class _Data(msgspec.Struct):
    type: str = ""


class _Document(msgspec.Struct):
    data: _Data


_document = msgspec.json.Decoder(_Document)


def translate(body: bytes, door: Door) -> Intake:
    """A request's body by the type of its document, where nothing says its path.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    try:
        kind = _document.decode(body).data.type
    except (msgspec.DecodeError, UnicodeDecodeError):
        kind = ""
    if (translator := _BY_TYPE.get(kind)) is not None:
        return translator(body, door)
    data = document(body)
    data["type"].fault("unknown_kind", f"'type' must be one of: {', '.join(_BY_TYPE)}.")
    raise Refused(data.faults)
