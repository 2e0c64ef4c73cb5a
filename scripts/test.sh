#!/usr/bin/env bash
# Runs the tests: everything quick, in two processes. Arguments go to pytest (-m slow, -k NAME, ...).
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec python -m pytest -n 2 "$@"
