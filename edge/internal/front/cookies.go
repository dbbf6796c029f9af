package front

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
)

// cookiesOf is what names of a service's cookies begin with below the API's host, where all services share one jar.
func cookiesOf(sandbox, port string) string {
	sum := sha256.Sum256([]byte(sandbox + "/" + port))
	return "bhatti-" + hex.EncodeToString(sum[:6]) + "-"
}

// keepCookies leaves the service its own, by their own names.
func keepCookies(header http.Header, mark string) {
	var kept []string
	for _, line := range header.Values("Cookie") {
		for part := range strings.SplitSeq(line, ";") {
			if own, ok := strings.CutPrefix(strings.TrimSpace(part), mark); ok {
				kept = append(kept, own)
			}
		}
	}
	header.Del("Cookie")
	if len(kept) > 0 {
		header.Set("Cookie", strings.Join(kept, "; "))
	}
}

// markCookies makes them cookies of this service alone: name and path; a domain would be the host's.
func markCookies(header http.Header, mark, path string) {
	lines := header.Values("Set-Cookie")
	header.Del("Set-Cookie")
	for _, line := range lines {
		below := path
		parts := strings.Split(line, ";")
		kept := []string{mark + strings.TrimSpace(parts[0])}
		for _, part := range parts[1:] {
			part = strings.TrimSpace(part)
			name, value, _ := strings.Cut(part, "=")
			switch strings.ToLower(name) {
			case "domain":
			case "path":
				if strings.HasPrefix(value, "/") {
					below = strings.TrimSuffix(path, "/") + value
				}
			default:
				kept = append(kept, part)
			}
		}
		header.Add("Set-Cookie", strings.Join(append(kept, "Path="+below), "; "))
	}
}

// ours are cookies of this server, which services neither see nor set.
func ours(name string) bool { return name == plainCookie || name == secureCookie }

// dropCookies keeps ours from the service.
func dropCookies(header http.Header) {
	var kept []string
	for _, line := range header.Values("Cookie") {
		for part := range strings.SplitSeq(line, ";") {
			part = strings.TrimSpace(part)
			if name, _, _ := strings.Cut(part, "="); !ours(name) {
				kept = append(kept, part)
			}
		}
	}
	header.Del("Cookie")
	if len(kept) > 0 {
		header.Set("Cookie", strings.Join(kept, "; "))
	}
}

// ownCookies keeps a service's cookies at its own name: a domain would be that of everybody else's services too.
func ownCookies(header http.Header) {
	lines := header.Values("Set-Cookie")
	header.Del("Set-Cookie")
	for _, line := range lines {
		parts := strings.Split(line, ";")
		if name, _, _ := strings.Cut(parts[0], "="); ours(strings.TrimSpace(name)) {
			continue
		}
		kept := parts[:1]
		for _, part := range parts[1:] {
			if name, _, _ := strings.Cut(part, "="); !strings.EqualFold(strings.TrimSpace(name), "domain") {
				kept = append(kept, part)
			}
		}
		header.Add("Set-Cookie", strings.Join(kept, ";"))
	}
}
