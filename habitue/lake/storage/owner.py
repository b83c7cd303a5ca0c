"""A lake in a bucket belongs to one workspace: its cursors count that workspace's log.

A second workspace with a log of its own would skip what the first has counted.
"""

from habitue.errors import BadWorkspace
from habitue.lake.storage.bucket import object_place

_OWNER = "workspace"


def claim(address: str, id: str) -> None:
    """Say that a lake belongs to the workspace of that id; saying it again changes nothing.

    Raises:
        BadWorkspace: it belongs to another.
        BadSetting: the address names no place in a bucket.
        OSError: the object store does not answer.
    """
    place = object_place(address)
    try:
        place.storage.put_new(place / _OWNER, id.encode())
    except FileExistsError as error:
        raise BadWorkspace(
            f"the lake at {address} belongs to another workspace\n"
            "hint: name another prefix; other machines use a copy of that workspace's folder"
        ) from error
