#!/usr/bin/env bash
# Builds the static agent into dist/lohar.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p ../dist
# A Go older than go.mod asks for fetches that version. No stamp of the version control: git refuses a checkout that belongs
# to somebody else, as it does under sudo.
export GOTOOLCHAIN=${GOTOOLCHAIN:-auto} CGO_ENABLED=0
# Client, daemon and agent are released together.
VERSION=${VERSION:-$(sed -n 's/^  "version": "\(.*\)",$/\1/p' ../package.json)}
go build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=$VERSION" -o ../dist/lohar .
