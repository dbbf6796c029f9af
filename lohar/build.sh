#!/usr/bin/env bash
# Builds the static agent into dist/lohar.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p ../dist
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION:-dev}" -o ../dist/lohar .
