"""habitue on Ray Serve: replicas answer, and `habitue serve --workers 0` writes for them.

    habitue serve --workspace work --shop acme --workers 0 &
    python deploy/ray_serve.py --workspace work --replicas 4 --port 8787

Replicas read the workspace's files, so all of them run where these are: on one machine, or on
several with the log in Kafka, scores in Redis and the live profiles on a disk that they share.
"""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from habitue.serving.several.hosted import Hosted

NAME = "habitue"


def application(workspace: str) -> "Hosted":
    """The ASGI application of one replica, made in its process."""
    from habitue.config import limit_threads
    from habitue.serving.app import Place
    from habitue.serving.several.hosted import Hosted
    from habitue.workspace import open_workspace

    limit_threads(1)

    def place() -> Place:
        opened = open_workspace(workspace, create=False)
        return Place(
            path=opened.path, log=opened.log, directory=opened.directory, lake=lambda: opened.lake
        )

    return Hosted(place)


class Answers:
    """A replica: all that it answers is in the application."""


def deployment(workspace: Path, replicas: int, *, processors: float = 0.5) -> Any:
    """The deployment, to be run by `ray.serve.run`."""
    from ray import serve

    path = str(workspace.absolute())

    def build() -> "Hosted":               # called in each replica's process
        return application(path)

    replica = serve.ingress(build)(Answers)
    return serve.deployment(
        name=NAME,
        num_replicas=replicas,
        max_ongoing_requests=256,
        ray_actor_options={"num_cpus": processors},
        health_check_period_s=1.0,
        health_check_timeout_s=5.0,
        graceful_shutdown_timeout_s=10.0,
    )(replica).bind()


def main() -> None:
    """Run it on the cluster that RAY_ADDRESS names, or one made here, until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--processors", type=float, default=0.5, help="of each replica")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8787)
    options = parser.parse_args()
    from habitue.config import prepare_ray

    prepare_ray()
    import ray
    from ray import serve

    ray.init(log_to_driver=False, include_dashboard=False)
    serve.start(http_options={"host": options.host, "port": options.port})
    app = deployment(options.workspace, options.replicas, processors=options.processors)
    serve.run(app, name=NAME, route_prefix="/")
    print(json.dumps({"listening": f"http://{options.host}:{options.port}"}), flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
