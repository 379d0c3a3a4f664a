"""`make demo`: train on the sample set, serve the model, ask it over HTTP, print the answer, stop the server."""

import json
import subprocess
import sys
import time
from http import HTTPStatus
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

CHECKPOINT = "demo-checkpoint"
BODY = {"inputs": ["hi, my parcel was due on monday and the tracking hasnt moved since", "charged twice this month??"]}
SECONDS_TO_START = 60
ASK = build_opener(ProxyHandler({}))  # the server is here, whatever proxy the environment names


def main() -> int:
    """Run the demo; gives the exit code."""
    run("training.run", "--output", CHECKPOINT, "--overwrite")
    command = [sys.executable, "-m", "serving", "--checkpoint", CHECKPOINT, "--port", "0", "--log-level", "warning"]
    print("\n$ python -m serving --checkpoint", CHECKPOINT, flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            first_line = server.stdout.readline()
            print(first_line, flush=True)
            ask(next(word for word in first_line.split() if word.startswith("http://")))
        finally:
            server.terminate()
    print("\nthe server has stopped with exit code", server.returncode)
    return server.returncode


def run(module: str, *arguments: str) -> None:
    """Run one of the project's commands and show it."""
    print("$ python -m", module, *arguments, flush=True)
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


def ask(address: str) -> None:
    """Wait for the model, then send BODY and print the answer."""
    wait_until_ready(address)
    request = Request(f"{address}/predict", json.dumps(BODY).encode(), {"Content-Type": "application/json"})
    print(f"$ curl {address}/predict -H 'Content-Type: application/json' -d '{json.dumps(BODY)}'")
    with ASK.open(request) as response:
        print(json.dumps(json.load(response), indent=2))


def wait_until_ready(address: str) -> None:
    """Ask for readiness until it is given."""
    for _ in range(10 * SECONDS_TO_START):
        try:
            with ASK.open(f"{address}/health/ready"):
                return
        except HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
        time.sleep(0.1)
    raise TimeoutError(f"the server was not ready within {SECONDS_TO_START} s")


if __name__ == "__main__":
    sys.exit(main())
