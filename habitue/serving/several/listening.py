"""The address that is listened at: one socket, which several processes may take from."""

import errno
import socket

_HINTS = {
    errno.EADDRINUSE: "--port 0 takes any that is free",
    errno.EACCES: "ports below 1024 are for the superuser; --port 8787",
}
_NO_ADDRESS = "--host takes an address of this machine: 127.0.0.1, or 0.0.0.0 for all of them"
BACKLOG = 1024                             # connections that wait to be taken


def listener(host: str, port: int) -> socket.socket:
    """A socket at an address; connections wait from when it is listened at.

    Raises:
        OSError: the address cannot be listened at.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.setblocking(False)
    except OSError as error:
        made.close()
        where = f"cannot listen at {host} port {port}"
        told = error.strerror or errno.errorcode.get(error.errno or 0, "")
        hint = _HINTS.get(error.errno or 0, _NO_ADDRESS)
        raise OSError(error.errno, f"{where}: {told}\nhint: {hint}") from error
    except BaseException:
        made.close()
        raise
    return made
