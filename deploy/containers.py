"""Containers of the images, by Docker or by a script that builds and runs them without its daemon.

Such a script is named by $CONTAINER_TOOL: `build TAG`, `size TAG` and `run TAG COMMAND …` with $BUILD_ARGS, $RUN_ENV
and $RUN_VOLUMES (host:container[:ro]). Either way the network is the host's, the root file system read-only, and /tmp a
tmpfs.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from uuid import uuid4

HOST = "127.0.0.1"
START_S = 60.0
TOOL = os.environ.get("CONTAINER_TOOL", "")
CLOCK = "import os, sys, time; print(time.time(), flush=True); os.execvp(sys.argv[1], sys.argv[1:])"
"""Tells when the container's own program begins: preparing its file system is not its start."""
SERVE = ("python", "-m", "serving.container")


def build(tag: str, target: str, arguments: Sequence[str] = ()) -> None:
    """Build an image of the Dockerfile."""
    more = ["--target", target, *arguments]
    if TOOL:
        subprocess.run([TOOL, "build", tag], check=True, env={**os.environ, "BUILD_ARGS": " ".join(more)})
    else:
        subprocess.run(["docker", "build", "--tag", tag, *more, "."], check=True)


def size_mb(tag: str) -> float:
    """An image unpacked, in MB of 10^6 bytes."""
    if TOOL:
        told = subprocess.run([TOOL, "size", tag], check=True, capture_output=True, text=True).stdout
        return int(told.split()[0]) * 1.048576
    told = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Size}}", tag], check=True, capture_output=True, text=True
    ).stdout
    return int(told) / 1e6


def run_command(
    tag: str, command: Sequence[str], environment: Mapping[str, str], volumes: Mapping[Path, str], name: str = ""
) -> tuple[list[str], dict[str, str]]:
    """What starts a container, and its environment; volumes are host folders and where they are, as /model:ro."""
    if TOOL:
        mounted = " ".join(f"{host}:{place}" for host, place in volumes.items())
        told = " ".join(f"{name}={value}" for name, value in environment.items())
        return [TOOL, "run", tag, *command], {**os.environ, "RUN_ENV": told, "RUN_VOLUMES": mounted}
    flags = ["--rm", "--network", "host", "--read-only", "--tmpfs", "/tmp"]  # noqa: S108
    flags += ["--name", name] if name else []
    flags += [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
    flags += [part for host, place in volumes.items() for part in ("--volume", f"{host}:{place}")]
    flags += ["--entrypoint", command[0]] if command else []
    return ["docker", "run", *flags, tag, *command[1:]], dict(os.environ)


def once(
    tag: str,
    *command: str,
    environment: Mapping[str, str] | None = None,
    volumes: Mapping[Path, str] | None = None,
    prefix: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a container to its end."""
    program, variables = run_command(tag, command, environment or {}, volumes or {})
    return subprocess.run([*prefix, *program], env=variables, capture_output=True, text=True, timeout=1800, check=False)


class Server:
    """A container that serves."""

    def __init__(self, process: subprocess.Popen[str], port: int, began: float) -> None:
        self.process, self.port, self.began = process, port, began

    def ask(self, path: str, body: object = None) -> tuple[int, dict[str, object]]:
        """The status and the JSON of an answer."""
        connection = HTTPConnection(HOST, self.port, timeout=30)
        try:
            data = None if body is None else json.dumps(body)
            connection.request("GET" if data is None else "POST", path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def wait(self, path: str = "/health/ready", body: object = None) -> float:
        """Ask until it answers; gives the seconds since the container's program began."""
        while time.time() - self.began < START_S:
            with suppress(OSError, HTTPException):
                if self.ask(path, body)[0] == 200:
                    return time.time() - self.began
            if self.process.poll() is not None:
                break
            time.sleep(0.005)
        raise RuntimeError(f"no answer from {path}: exit code {self.process.poll()}")


@contextmanager
def serving(
    tag: str,
    port: int,
    *command: str,
    environment: Mapping[str, str] | None = None,
    volumes: Mapping[Path, str] | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Server]:
    """A container that serves at a port, killed when this is left; what it says goes to standard error."""
    told, name = {"NLP_APP_PORT": str(port), "NLP_APP_HOST": HOST, **(environment or {})}, f"{tag}-{uuid4()}"
    program, variables = run_command(tag, ["python", "-c", CLOCK, *(command or SERVE)], told, volumes or {}, name)
    with subprocess.Popen(
        [*prefix, *program], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            if not re.fullmatch(r"[\d.]+\n", first):
                raise RuntimeError(f"the container did not start: {first}{process.communicate()[1]}")
            yield Server(process, port, float(first))
        finally:
            if not TOOL:  # whose process is not the container
                subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)
            process.kill()


def torch_source(folder: Path) -> list[str]:
    """The arguments of a build that say where torch comes from.

    Of Docker the index that $TORCH_INDEX_URL names, if any. Of a tool, the wheel that pip on this machine would
    install: where that is one for the CPU, so is the image; the folder becomes an index of wheels that the build reads.
    """
    if not TOOL:
        url = os.environ.get("TORCH_INDEX_URL")
        return ["--build-arg", f"TORCH_INDEX_URL={url}"] if url else []
    wheels = folder / "torch"
    pinned = (Path(__file__).parent / "locks" / "torch.txt").read_text().split()[0]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), pinned]
    subprocess.run(command, check=True)
    (wheel,) = wheels.glob("*.whl")
    if "+cpu" not in wheel.name:  # then it is what the build takes anyway
        return []
    digest = subprocess.run(["sha256sum", wheel], check=True, capture_output=True, text=True).stdout.split()[0]
    name = wheel.name.replace("+", "%2B")
    (wheels / "index.html").write_text(f'<a href="{name}#sha256={digest}">{wheel.name}</a>\n')
    return ["--layers", "--volume", f"{folder}:/wheels:ro", "--build-arg", "TORCH_INDEX_URL=file:///wheels"]
