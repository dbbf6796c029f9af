package proc

import (
	"maps"
	"slices"
	"strings"
)

// Environment merges, lowest first: built-in values for u, then each of layers. The result is sorted.
func Environment(u *User, layers ...map[string]string) ([]string, map[string]string) {
	env := map[string]string{"PATH": DefaultPath, "TERM": "xterm-256color", "LANG": "C.UTF-8", "HOME": u.Home}
	if u.Name != "" {
		env["USER"], env["LOGNAME"] = u.Name, u.Name
	}
	for _, layer := range layers {
		maps.Copy(env, layer)
	}
	list := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list, env
}

// ValidEnv reports whether every name and value can be passed to a process.
func ValidEnv(env map[string]string) bool {
	for k, v := range env {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.Contains(v, "\x00") {
			return false
		}
	}
	return true
}
