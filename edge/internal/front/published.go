package front

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"bhatti/edge/internal/daemon"
)

const (
	// A browser sees the waiting page when its sandbox takes longer.
	patience = time.Second
	// Where the page that asks for a password sends it.
	loginPath = "/.bhatti/login"
	maxLogin  = 8 << 10
	// The query parameter of a link: src/publish/access.ts.
	linkParameter = "bhatti_share"
	plainCookie   = "bhatti-access"
	// Only over TLS, from this very host.
	secureCookie = "__Host-bhatti-access"
)

// aliasOf is the first label of a host in one of our zones.
func (s *Server) aliasOf(host string) (string, bool) {
	for _, zone := range s.config.Zones {
		if label, ok := strings.CutSuffix(host, "."+zone); ok && label != "" {
			return label, true
		}
	}
	return "", false
}

// hostOf is the name that a client asked for, without port and final dot.
func hostOf(host string) string {
	if at := strings.LastIndexByte(host, ':'); at >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:at]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// looks says whether somebody looks at a page, rather than a program or a part of a page.
func looks(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
		return false
	}
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" && mode != "navigate" {
		return false
	}
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// byAlias serves a published port.
func (g *guests) byAlias(w http.ResponseWriter, r *http.Request, c client, alias string) {
	https := c.proto == "https"
	browser := looks(r)
	w = &page{ResponseWriter: w, r: r, browser: browser, alias: alias}
	begin := daemon.Begin{
		Kind: "alias", Alias: alias, HTTPS: https, Browser: browser,
		Method: r.Method, Path: r.URL.Path, Peer: c.address, Auth: r.Header.Get("Authorization"),
	}
	if r.URL.Path == loginPath {
		g.login(w, r, begin)
		return
	}
	begin.Next, begin.Token = withoutToken(targetOf(r))
	name := plainCookie
	if https {
		name = secureCookie
	}
	if cookie, err := r.Cookie(name); err == nil {
		begin.Cookie = cookie.Value
	}
	if begin.Auth != "" && !strings.HasPrefix(strings.ToLower(begin.Auth), "basic ") {
		begin.Auth = "" // the service's own
	}
	g.pass(w, r, begin, &passing{target: begin.Next, client: c, alias: alias})
}

// withoutToken takes the token of a link out of a target; every other byte stays.
func withoutToken(target string) (string, string) {
	path, query, found := strings.Cut(target, "?")
	if !found || !strings.Contains(query, linkParameter+"=") {
		return target, ""
	}
	token := ""
	var kept []string
	for part := range strings.SplitSeq(query, "&") {
		if value, ok := strings.CutPrefix(part, linkParameter+"="); ok {
			token, _ = url.QueryUnescape(value)
		} else {
			kept = append(kept, part)
		}
	}
	if len(kept) == 0 {
		return path, token
	}
	return path + "?" + strings.Join(kept, "&"), token
}

func (g *guests) login(w http.ResponseWriter, r *http.Request, begin daemon.Begin) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		writeError(w, r, failure{405, "method_not_allowed", "method not allowed", "", nil})
		return
	}
	// A form of another page must not log anybody in.
	if origin := r.Header.Get("Origin"); origin != "" && origin != "null" {
		if from, err := url.Parse(origin); err != nil || !strings.EqualFold(from.Host, r.Host) {
			writeError(w, r, failure{403, "forbidden", "the form came from another page", "", nil})
			return
		}
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxLogin)
	if err := r.ParseForm(); err != nil {
		writeError(w, r, failure{400, "bad_request", "the form cannot be read", "", nil})
		return
	}
	begin.Kind, begin.Password, begin.Next = "login", r.PostForm.Get("password"), r.PostForm.Get("next")
	begin.Auth = ""
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	_, err := g.control.Begin(ctx, begin)
	var refusal *daemon.Refusal
	if errors.As(err, &refusal) {
		writeRefusal(w, r, refusal)
		return
	}
	writeError(w, r, failure{503, "unavailable", "the server does not answer", "try again in a moment", nil})
}
