"""`deploy/check.sh` calls this: that the images do what docs/deployment.md says, each line with what was seen."""

import argparse
import csv
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from packaging.utils import canonicalize_name

from deploy.audit import audit, packages, records
from deploy.containers import Server, build, once, serving, torch_source
from nlp_app import Predictor

ROOT = Path(__file__).parent.parent
IMAGES = {"nlp-app": "serving", "nlp-app-onnx": "onnx", "nlp-app-training": "training"}
LOCKS = {
    "nlp-app": ("torch", "cuda", "serving"),
    "nlp-app-onnx": ("onnx",),
    "nlp-app-training": ("torch", "cuda", "training"),
}
UID = 10001
PORT, OTHER_PORT = 18080, 18081
GRACE_S = 40
"""In which a container that is told to stop has ended: more than the 30 s that a request may take."""
TEXTS = ["how did serfdom develop in Russia ?", "what films featured the character Popeye Doyle ?", "", "1"]
HANG = (
    "import threading; from nlp_app.predictor import Predictor; from serving.container import run\n"
    "classify = Predictor.classify\n"
    "def hang(self, texts, *rest, **more):\n"
    "    return threading.Event().wait() if len(texts) == 200 else classify(self, texts, *rest, **more)\n"
    "Predictor.classify = hang; raise SystemExit(run())"
)
"""The server, whose model hangs at 200 texts, which are one batch."""


def main() -> int:
    """Build and check; gives 1 where something does not hold."""
    parser = argparse.ArgumentParser(prog="deploy/check.sh", description=__doc__)
    parser.add_argument("--built", action="store_true", help="the images are there already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # what another user wrote may stay
        place = Path(folder)
        place.chmod(0o755)
        if not options.built:
            arguments = torch_source(place / "wheels")
            for tag, target in IMAGES.items():
                build(tag, target, arguments)
        checks = Checks()
        model = train(checks, place)
        for tag in ("nlp-app", "nlp-app-onnx"):
            check_server(checks, tag, model)
            listed(checks, tag, place)
    print(f"{checks.kept} checks hold, {len(checks.missed)} do not")
    return int(bool(checks.missed))


class Checks:
    """What holds, and what does not."""

    def __init__(self) -> None:
        self.kept = 0
        self.missed: list[str] = []

    def that(self, name: str, holds: bool, seen: object = "") -> None:
        """Note one."""
        print(f"{'ok    ' if holds else 'MISSED'} {name}{f': {seen}' if seen != '' else ''}", flush=True)
        if holds:
            self.kept += 1
        else:
            self.missed.append(name)


def train(checks: Checks, place: Path) -> Path:
    """Train in a container from a mounted file, into a mounted folder."""
    data, output = training_file(), place / "output"
    output.mkdir()
    output.chmod(0o777)
    volumes = {data.parent: "/data:ro", output: "/output"}
    asked = ("--train", f"/data/{data.name}", "--output", "/output/model")
    tag, program = "nlp-app-training", ("python", "-m", "training.run")
    done = once(tag, *program, *asked, volumes=volumes)
    checks.that(f"{tag}: trains on {data.name}", done.returncode == 0, done.stderr[-300:] if done.returncode else "")
    done = once(tag, "python", "-m", "training.export", "/output/model", "--onnx", volumes=volumes)
    checks.that(f"{tag}: exports it", done.returncode == 0, (done.stdout + done.stderr).strip()[-300:])
    checks.that(f"{tag}: what it writes is its user's", (output / "model").stat().st_uid == UID)
    asked = ("--train", f"/data/{data.name}", "--output", "/output/other")
    done = once(tag, *program, *asked, volumes={**volumes, output: "/output:ro"})
    refused(checks, f"{tag}: a read-only volume", done)
    rights(checks, tag)
    listed(checks, tag, place)
    return output / "model"


def training_file() -> Path:
    """trec6 where there is data, else the sample."""
    data = os.environ.get("NLP_APP_DATA")
    found = Path(data) / "trec6" / "train.csv.gz" if data else ROOT / "training" / "sample" / "train.csv"
    return found.resolve()


def check_server(checks: Checks, tag: str, model: Path) -> None:
    """All that holds of an image that serves."""
    rights(checks, tag)
    answers(checks, tag, model)
    bad_input(checks, tag, model)
    ends(checks, tag, model)
    hangs(checks, tag, model)


def rights(checks: Checks, tag: str) -> None:
    """Whose the process is, and where it can write."""
    program = (
        "import os\n"
        "def tried(path):\n"
        "    try: open(path, 'w').close(); return True\n"
        "    except OSError: return False\n"
        "places = ('/x', '/app/x', '/app/nlp_app/x.py', '/sample/x', '/etc/x', '/tmp/x')\n"
        "print(os.getuid(), os.getgid(), *map(tried, places))"
    )
    seen = once(tag, "python", "-c", program).stdout.split()
    checks.that(f"{tag}: is not root", seen[:2] == [str(UID)] * 2, " ".join(seen[:2]))
    checks.that(f"{tag}: writes to its tmpfs alone", seen[2:] == ["False"] * 5 + ["True"], " ".join(seen[2:]))
    program = "import shutil; print([one for one in ('gcc', 'cc', '/app/venv/bin/pip') if shutil.which(one)])"
    tools = once(tag, "python", "-c", program)
    checks.that(f"{tag}: has no compiler, and no pip of its own", tools.stdout.strip() == "[]", tools.stdout.strip())
    if tag == "nlp-app-onnx":
        found = once(tag, "python", "-c", "import importlib.util; print(importlib.util.find_spec('torch'))")
        checks.that(f"{tag}: has no torch", found.stdout.strip() == "None")


def listed(checks: Checks, tag: str, place: Path) -> None:
    """The image's own list of its packages: whole, and of the locks; and what is known of them."""
    program = (
        "import json; from importlib import metadata\n"
        "print(json.dumps([[one.metadata['Name'], one.version] for one in metadata.distributions()]))\n"
        "print(open('/app/sbom.cdx.json').read())"
    )
    first, _, sbom = once(tag, "python", "-c", program).stdout.partition("\n")
    path = place / f"{tag}.cdx.json"
    path.write_text(sbom)
    installed = {(canonicalize_name(name), version) for name, version in json.loads(first)}
    named = packages(path)
    checks.that(f"{tag}: its list names what is installed", named == installed, named ^ installed or len(named))
    locks = "".join((ROOT / "deploy" / "locks" / f"{name}.txt").read_text() for name in LOCKS[tag])
    locked = set(re.findall(r"^([\w.-]+)==([\w.]+)", locks, re.MULTILINE))
    others = {(name, version.partition("+")[0]) for name, version in named} - locked
    checks.that(f"{tag}: each package is one of its locks'", not others, others or "")
    if database := os.environ.get("OSV_DATABASE"):
        found = audit(named, records(Path(database)))
        checks.that(f"{tag}: no package is known to be vulnerable", not found, "; ".join(map(str, found)))


def answers(checks: Checks, tag: str, model: Path) -> None:
    """With nothing mounted, and with a model."""
    with serving(tag, PORT) as server:
        seconds = server.wait("/predict", {"inputs": TEXTS})
        checks.that(f"{tag}: answers with nothing mounted", True, f"after {seconds:.2f} s")
        server.process.terminate()
        warned = server.process.communicate(timeout=GRACE_S)[1]
        checks.that(f"{tag}: says that the sample answers", "so the sample model answers" in warned)
    expected = Predictor.load(model).predict(TEXTS, top_k=3)
    with serving(tag, PORT, volumes={model: "/model:ro"}) as server:
        server.wait()
        found = server.ask("/predict", {"inputs": TEXTS, "top_k": 3})[1]["predictions"]
        pairs = [
            (one["label"], score["score"], label.label, label.score)
            for one, wanted in zip(found, expected, strict=True)  # type: ignore[call-overload]
            for score, label in zip(one["scores"], wanted.scores, strict=True)
        ]
        furthest = max(abs(score - wanted) for _, score, _, wanted in pairs)
        same = [one["label"] for one in found] == [one.label for one in expected]  # type: ignore[attr-defined]
        checks.that(f"{tag}: the scores of the model in this process", same and furthest <= 1e-5, f"{furthest:.1e}")
        taken = once(tag, environment={"NLP_APP_PORT": str(PORT), "NLP_APP_HOST": "127.0.0.1"})
        refused(checks, f"{tag}: a port that is taken", taken)


def refused(checks: Checks, name: str, done: object) -> None:
    """Exit code 2 and a sentence."""
    code, errors = done.returncode, done.stderr.strip().splitlines()  # type: ignore[attr-defined]
    last = errors[-1] if errors else ""
    holds = code == 2 and last.startswith("error: ") and "Traceback" not in "".join(errors)
    checks.that(name, holds, f"{code}, {last}")


def bad_input(checks: Checks, tag: str, model: Path) -> None:
    """A model that is not there, or that the user may not read; a variable that is no setting."""
    port = {"NLP_APP_PORT": str(OTHER_PORT)}
    nowhere = once(tag, environment={**port, "NLP_APP_CHECKPOINT": "/nowhere"})
    refused(checks, f"{tag}: no model where one was asked for", nowhere)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        refused(checks, f"{tag}: an empty folder", once(tag, environment=port, volumes={Path(folder): "/model:ro"}))
        closed = Path(folder) / "closed"
        closed.mkdir(0o700)
        refused(checks, f"{tag}: a folder it may not read", once(tag, environment=port, volumes={closed: "/model:ro"}))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "memory.max").write_text("40000000\n")
        few = once(tag, environment=port, volumes={model: "/model:ro", Path(folder): "/sys/fs/cgroup:ro"})
        refused(checks, f"{tag}: too little memory", few)
    with serving(tag, PORT, environment={"NLP_APP_CHEKPOINT": "x"}, volumes={model: "/model:ro"}) as server:
        server.wait()
        server.process.terminate()
        told = server.process.communicate(timeout=GRACE_S)[1]
        hint = "did you mean NLP_APP_CHECKPOINT" in told
        checks.that(f"{tag}: an unknown variable is told", hint, told.strip()[-120:])


def ends(checks: Checks, tag: str, model: Path) -> None:
    """SIGTERM under load."""
    found: Counter[str] = Counter()
    told = threading.Event()

    def load(server: Server) -> None:
        while not told.is_set() or server.process.poll() is None:
            began = told.is_set()
            try:
                status, answer = server.ask("/predict", {"inputs": TEXTS * 50})
            except (OSError, HTTPException):
                found["refused after it"] += told.is_set()
                found["lost"] += not told.is_set()
                time.sleep(0.01)
                continue
            whole = status == 200 and len(answer["predictions"]) == len(TEXTS) * 50  # type: ignore[arg-type]
            found["answered" if whole else "lost" if not began else "refused after it"] += 1

    with serving(tag, PORT, volumes={model: "/model:ro"}) as server:
        server.wait()
        clients = [threading.Thread(target=load, args=(server,)) for _ in range(8)]
        for client in clients:
            client.start()
        time.sleep(2)
        told.set()
        server.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        unready = until(lambda: not healthy(server), 5)
        code = server.process.wait(timeout=GRACE_S)
        for client in clients:
            client.join()
        checks.that(f"{tag}: unready on SIGTERM", unready)
        checks.that(f"{tag}: finishes what it accepted", not found["lost"] and found["answered"] > 0, dict(found))
        checks.that(f"{tag}: exits with 0 in its time", code == 0, f"{code} after {time.monotonic() - begun:.1f} s")


def hangs(checks: Checks, tag: str, model: Path) -> None:
    """A model that hangs makes the health check fail."""
    environment = {"NLP_APP_PORT": str(PORT), "NLP_APP_HOST": "127.0.0.1"}

    def health() -> int:
        return once(tag, "python", "-m", "serving.health", environment=environment).returncode

    with serving(tag, PORT, "python", "-c", HANG, volumes={model: "/model:ro"}) as server:
        server.wait()
        checks.that(f"{tag}: the health check is content", health() == 0)
        threading.Thread(target=asked_in_vain, args=(server,), daemon=True).start()
        checks.that(f"{tag}: the health check fails where the model hangs", until(lambda: not healthy(server), 5))
        checks.that(f"{tag}: and so says its command", health() == 1)


def asked_in_vain(server: Server) -> None:
    """Until the container is gone."""
    with suppress(OSError, HTTPException):
        server.ask("/predict", {"inputs": ["x"] * 200})


def healthy(server: Server) -> bool:
    """Whether it says that it is ready."""
    try:
        return server.ask("/health/ready")[0] == 200
    except (OSError, HTTPException):
        return False


def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether it comes to hold in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return False


if __name__ == "__main__":
    csv.field_size_limit(sys.maxsize)
    sys.exit(main())
