#!/bin/sh
# Builds dist/lohar at the root of the repository. VERSION (environment) is what the agent calls itself.
set -eu
cd "$(dirname "$0")"
mkdir -p ../dist
version=${VERSION:-$(git describe --always --dirty 2>/dev/null || echo dev)}
CGO_ENABLED=0 GOOS=linux go build -trimpath -ldflags "-s -w -X main.version=$version" -o ../dist/lohar .
