#!/usr/bin/env bash
# './test.sh check go unit' on a bare Debian, by sudo from a user's home, called from another folder.
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=test/fresh/check.sh
. test/fresh/check.sh

# Its own count as well: a run that ran nothing is not a good one.
passes() {
  (cd / && as_ann sudo "$CHECKOUT/test.sh" check go unit) || return 1
  [ "$(sed -n 's/^\([0-9]*\) passed, 0 failed, .*/\1/p' "$OUT" | tail -1)" -gt 200 ]
}
again() {
  as_ann sudo "$CHECKOUT/test.sh" check || return 1
  ! grep -E 'installing|enabling' "$OUT"
}
refuses() { ! as_ann "$CHECKOUT/test.sh" check && grep -q 'this needs root' "$OUT"; }

must "a user with sudo" a_user_with_sudo
check "test.sh says that it needs root" refuses
check "test.sh check go unit" passes
check "a second run installs nothing" again
check "the checkout stays the user's" test -z "$(find "$CHECKOUT" ! -user ann -print -quit)"
finish
