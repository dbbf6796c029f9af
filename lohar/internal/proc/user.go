package proc

import (
	"slices"
	"strconv"
	"strings"

	"bhatti/lohar/internal/plain"
)

// User is an identity taken from the image's /etc/passwd and /etc/group.
type User struct {
	UID, GID   uint32
	Name, Home string
	Groups     []uint32
}

const (
	maxAccountFile = 1 << 20
	maxGroups      = 1024
)

// LookupUser reads the account of uid below root ("/" or a test's directory). A uid without an account gets a group of
// the same number and the home directory "/".
func LookupUser(root string, uid uint32) *User {
	u := &User{UID: uid, GID: uid, Home: "/"}
	if uid == 0 {
		u.Name, u.Home = "root", "/root"
	}
	eachAccount(root+"/etc/passwd", func(f []string) bool {
		if len(f) < 7 || !isID(f[2], uid) {
			return true
		}
		u.Name = f[0]
		if gid, err := strconv.ParseUint(f[3], 10, 32); err == nil {
			u.GID = uint32(gid)
		}
		if strings.HasPrefix(f[5], "/") {
			u.Home = f[5]
		}
		return false
	})
	if u.Name == "" {
		return u
	}
	eachAccount(root+"/etc/group", func(f []string) bool {
		if len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), u.Name) {
			return true
		}
		if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil && uint32(gid) != u.GID {
			u.Groups = append(u.Groups, uint32(gid))
		}
		return len(u.Groups) < maxGroups
	})
	return u
}

// FindUser finds an account by name or number; a number without an account gets a group of the same number.
func FindUser(root, user string) *User {
	if uid, err := strconv.ParseUint(user, 10, 32); err == nil && uid < 1<<32-1 {
		return LookupUser(root, uint32(uid))
	}
	var found *User
	eachAccount(root+"/etc/passwd", func(f []string) bool {
		if len(f) < 7 || f[0] != user {
			return true
		}
		if uid, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			found = LookupUser(root, uint32(uid))
		}
		return false
	})
	return found
}

// FindGroup finds a group's number by its name; a number stands for itself.
func FindGroup(root, group string) (gid uint32, ok bool) {
	if n, err := strconv.ParseUint(group, 10, 32); err == nil && n < 1<<32-1 {
		return uint32(n), true
	}
	eachAccount(root+"/etc/group", func(f []string) bool {
		if len(f) < 3 || f[0] != group {
			return true
		}
		n, err := strconv.ParseUint(f[2], 10, 32)
		gid, ok = uint32(n), err == nil
		return false
	})
	return gid, ok
}

func isID(s string, id uint32) bool {
	n, err := strconv.ParseUint(s, 10, 32)
	return err == nil && uint32(n) == id
}

// eachAccount calls f with the colon-separated fields of every line until f returns false. What is no file has no lines.
func eachAccount(path string, f func([]string) bool) {
	data, _ := plain.Read(path, maxAccountFile)
	for line := range strings.Lines(string(data)) {
		if !f(strings.Split(strings.TrimRight(line, "\n"), ":")) {
			return
		}
	}
}
