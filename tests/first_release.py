"""A workspace as the first release left it."""

import tarfile
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden" / "workspace_format_1.tar.gz"


def unpack(into: Path) -> Path:
    """The workspace, unpacked into a folder."""
    # the first Pythons 3.11 have no filters, and the last want one
    filtered = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(into, **filtered)  # type: ignore[arg-type]
    return into / "ws"
