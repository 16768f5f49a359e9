#!/usr/bin/env bash
# Everything a fresh machine with Python >= 3.11 needs, into .venv: the locked versions (hash-checked), then this checkout.
# Safe to run again; does nothing if neither the lock nor pyproject.toml has changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
stamp=.venv/.requirements.lock
if ! cmp -s requirements.lock "$stamp" || ! cmp -s pyproject.toml .venv/.pyproject.toml; then
  "${PYTHON:-python3}" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.5,<1"
  .venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python --require-hashes -r requirements.lock
  .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps -e .
  cp requirements.lock "$stamp"
  cp pyproject.toml .venv/.pyproject.toml
fi
