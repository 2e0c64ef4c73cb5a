#!/usr/bin/env bash
# Runs the quick tests in two processes; arguments go to pytest (-m slow, -k NAME, a file, ...).
# The browser tests need Chromium: fetched from Debian where this machine has neither and may install it.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v chromium >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
fi
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec python -m pytest -n 2 "$@"
