#!/usr/bin/env bash
# Builds the three images and checks what docs/deployment.md says of them, with Docker, or with what $CONTAINER_TOOL
# names (deploy/containers.py). PYTHON is an interpreter that has the package.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-.venv/bin/python}" -m deploy.check "$@"
