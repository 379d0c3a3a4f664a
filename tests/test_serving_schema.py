"""The server does what its OpenAPI document says, and says all that it does: schemathesis asks it everything."""

import subprocess
import sys
from pathlib import Path

from tests.test_serving_main import server, wait_until_ready


def test_the_server_is_what_its_openapi_document_says(shared_checkpoint: Path, tmp_path: Path) -> None:
    """With all checks: status codes, content types, schemas of answers, what is taken and what is refused."""
    with server("--checkpoint", f"weather@1={shared_checkpoint}") as (process, address):
        wait_until_ready(address)
        program = [
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{address}/openapi.json", "--checks", "all",
            "--max-examples", "20", "--seed", "1", "--no-color", "--phases", "examples,coverage,fuzzing",
        ]  # fmt: skip
        found = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path)  # where it leaves a database
        process.terminate()
        _, log = process.communicate()
    assert found.returncode == 0, found.stdout[-5000:]
    assert "Traceback" not in log
