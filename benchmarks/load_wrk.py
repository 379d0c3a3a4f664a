"""A closed loop, by wrk: each connection asks again as soon as it has its answer."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.servers import HOST

SCRIPT = """
local requests, place = {}, 0
init = function(arguments)
  for body in io.lines(FILE) do
    requests[#requests + 1] = wrk.format("POST", "/predict", {["Content-Type"] = "application/json"}, body)
  end
end
request = function()
  place = place % #requests + 1
  return requests[place]
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nFOUND {"requests": %d, "seconds": %f, "refused": %d, "broken": %d, "p50_ms": %f, "p99_ms": %f}\\n',
    summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


def wrk(port: int, bodies: Iterable[bytes], *, connections: int, seconds: float, core: int) -> dict[str, float]:
    """Ask on so many connections, each as soon as it has its answer.

    Returns:
        requests, seconds, requests_s, refused (not 2xx or 3xx), broken (failed or timed out), p50_ms, p99_ms.
    """
    with tempfile.TemporaryDirectory() as folder:
        lines, script = Path(folder) / "bodies", Path(folder) / "script.lua"
        lines.write_bytes(b"".join(body + b"\n" for body in bodies))
        script.write_text(SCRIPT.replace("FILE", f"'{lines}'"))
        loads = ["-t", 1, "-c", connections, "-d", f"{max(1, round(seconds))}s", "-s", script]
        command = ["taskset", "-c", core, "wrk", *loads, f"http://{HOST}:{port}"]
        told = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    return read_wrk(told)


def read_wrk(told: str) -> dict[str, float]:
    """What the script above printed at the end."""
    found: dict[str, float] = json.loads(told.rpartition("FOUND ")[2])
    return {**found, "requests_s": (found["requests"] - found["refused"]) / found["seconds"]}


def has_wrk() -> bool:
    """Whether it is installed."""
    return shutil.which("wrk") is not None
