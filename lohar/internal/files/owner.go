package files

import (
	"fmt"
	"strconv"
	"strings"

	"bhatti/lohar/internal/proc"
)

// Owner of a file; -1 = keep, or whatever is usual for a new one.
type Owner struct{ UID, GID int }

// ParseOwner reads chown(1)'s USER, USER:GROUP, :GROUP (names of root's /etc/passwd and /etc/group, or numbers). A user
// alone brings its own group along.
func ParseOwner(root, text string) (o Owner, err error) {
	user, group, both := strings.Cut(text, ":")
	o = Owner{-1, -1}
	if user != "" {
		u := proc.FindUser(root, user)
		if u == nil {
			return o, fmt.Errorf("there is no user %q in the sandbox's /etc/passwd", user)
		}
		o = Owner{int(u.UID), int(u.GID)}
	}
	if both && group != "" {
		gid, ok := proc.FindGroup(root, group)
		if !ok {
			return o, fmt.Errorf("there is no group %q in the sandbox's /etc/group", group)
		}
		o.GID = int(gid)
	}
	if o.UID < 0 && o.GID < 0 {
		return o, fmt.Errorf("an owner is USER, USER:GROUP or :GROUP, not %q", text)
	}
	return o, nil
}

// ParseMode reads an octal mode, at most 7777.
func ParseMode(text string) (uint32, error) {
	perm, err := strconv.ParseUint(text, 8, 32)
	if err != nil || perm > 0o7777 {
		return 0, fmt.Errorf("a mode is octal and at most 7777, not %q", text)
	}
	return uint32(perm), nil
}
