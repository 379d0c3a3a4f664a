"""The peers of benchmarks.serving, each a program.

`python -m benchmarks.rivals noop PORT` is a FastAPI endpoint with our shapes that computes nothing,
`… litserve PORT CHECKPOINT` LitServe around the same module, `… predict CHECKPOINT FILE` the module without a server.
"""

import json
import sys
import time
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.servers import HOST

BATCH, BATCH_TIMEOUT_S = 32, 0.005
"""Of LitServe."""


def noop(port: int) -> None:
    """Our shapes, FastAPI's own layers, and nothing behind them."""
    import uvicorn
    from fastapi import FastAPI

    from serving.schemas import EXAMPLE_ANSWER, PredictRequest, PredictResponse

    app = FastAPI()
    answer = PredictResponse.model_validate(EXAMPLE_ANSWER)

    @app.post("/predict")
    async def predict(_: PredictRequest) -> PredictResponse:
        return answer

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    uvicorn.run(app, host=HOST, port=port, access_log=False, log_level="warning", loop="uvloop", http="httptools")


@cache
def api_class() -> Any:
    """A LitAPI around Predictor; made when it is asked for, since the package is mostly not there."""

    class Api(import_module("litserve").LitAPI):  # type: ignore[misc]
        checkpoint: Path

        def setup(self, _: str) -> None:
            import torch

            from nlp_app import Predictor

            torch.set_num_threads(1)
            self.predictor = Predictor.load(self.checkpoint)

        def decode_request(self, request: dict[str, Any]) -> str:
            return str(request["inputs"])

        def batch(self, inputs: list[str]) -> list[str]:
            return inputs

        def predict(self, texts: list[str]) -> list[dict[str, Any]]:
            return [prediction.to_json() for prediction in self.predictor.predict(texts)]

        def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return output

        def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
            return {"predictions": [output]}

    Api.__qualname__ = "Api"
    return Api


def __getattr__(name: str) -> Any:
    """LitServe's worker, a process of its own, finds the class by its name."""
    if name == "Api":
        return api_class()
    raise AttributeError(name)


def litserve(port: int, checkpoint: Path) -> None:
    """The same module in batches of 32."""
    api = api_class()(max_batch_size=BATCH, batch_timeout=BATCH_TIMEOUT_S)
    api.checkpoint = checkpoint
    server = import_module("litserve").LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host=HOST, port=port, num_api_servers=1, log_level="warning", generate_client_file=False)


def predict(checkpoint: Path, texts: Path) -> None:
    """Print the texts a second of Predictor.predict on a file with a text a line as JSON; the median of 3 passes."""
    import torch

    from nlp_app import Predictor

    torch.set_num_threads(1)
    predictor = Predictor.load(checkpoint)
    asked = [json.loads(line)["inputs"] for line in texts.read_text().splitlines()]
    predictor.predict(asked[:1000])
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        predictor.predict(asked)
        taken.append(time.perf_counter() - begun)
    print(len(asked) / sorted(taken)[1])


def main() -> int:
    """Run one of the peers."""
    name, *values = sys.argv[1:]
    if name == "noop":
        noop(int(values[0]))
    elif name == "litserve":
        litserve(int(values[0]), Path(values[1]))
    else:
        predict(Path(values[0]), Path(values[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
