#!/usr/bin/env bash
# Builds the static edge process into dist/edge.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p ../dist
# As lohar/build.sh: the version of Go that go.mod names, and no stamp of the version control.
export GOTOOLCHAIN=${GOTOOLCHAIN:-auto} CGO_ENABLED=0
go build -buildvcs=false -trimpath -ldflags "-s -w" -o ../dist/edge .
