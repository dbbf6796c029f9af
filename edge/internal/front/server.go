// Package front is what clients meet: it tells apart what goes to the daemon's API and what to a guest.
package front

import (
	"context"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"os"
	"strings"
	"time"

	"bhatti/edge/internal/daemon"
)

const (
	headerFor    = 10 * time.Second
	keepAliveFor = 120 * time.Second
	maxHeader    = 64 << 10
)

// Config comes from the daemon.
type Config struct {
	// Networks whose X-Forwarded-For and -Proto are believed.
	TrustedProxies []netip.Prefix `json:"trusted_proxies"`
	// Zones whose names are published ports.
	Zones []string `json:"zones"`
	// Connections at a time, of all clients and of one address.
	MaxConnections        int `json:"max_connections"`
	MaxConnectionsPerPeer int `json:"max_connections_per_peer"`
}

// Server is the HTTP side of the edge.
type Server struct {
	config  Config
	control *daemon.Control
	http    *http.Server
	api     *httputil.ReverseProxy
	guests  *guests
	count   *connections
}

// New makes a server; nothing is served before Serve. apiSocket is where the daemon's API listens.
func New(config Config, control *daemon.Control, apiSocket string) *Server {
	s := &Server{config: config, control: control, count: newConnections(config)}
	quiet := log.New(os.Stderr, "", 0)
	s.api = newAPI(apiSocket, quiet)
	s.guests = newGuests(control, quiet)
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerFor,
		IdleTimeout:       keepAliveFor,
		MaxHeaderBytes:    maxHeader,
		// Every client's nonsense would be a line.
		ErrorLog: log.New(discard{}, "", 0),
	}
	return s
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// Serve accepts from listener until Shutdown.
func (s *Server) Serve(listener net.Listener) {
	_ = s.http.Serve(s.count.limit(listener))
}

// Shutdown accepts no more, waits for running requests until ctx ends, then cuts them.
func (s *Server) Shutdown(ctx context.Context) {
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Answers may begin before the request has ended: a guest's, an exec's.
	_ = http.NewResponseController(w).EnableFullDuplex()
	// Then net/http takes what is left of a body after it has stopped watching the connection, and reads the next request beside
	// the watch that the body's end starts: a panic. Closed here, the end comes before it stops.
	defer r.Body.Close()
	if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
		// net/http takes a request with a length as well for a chunked one. Whoever stands in front of us may have read it
		// otherwise, so nothing that follows on this connection is a request (RFC 9112, 6.3).
		w.Header().Set("Connection", "close")
	}
	c := s.clientOf(r)
	if alias, ok := s.aliasOf(hostOf(r.Host)); ok {
		s.guests.byAlias(w, r, c, alias)
		return
	}
	if sandbox, port, rest, ok := proxied(targetOf(r)); ok {
		s.guests.byPath(w, r, c, sandbox, port, rest)
		return
	}
	s.api.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), clientKey{}, c)))
}

// targetOf is the path and query as they were sent.
func targetOf(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		return r.RequestURI
	}
	return r.URL.RequestURI()
}

// proxied takes /sandboxes/REF/proxy/PORT[/rest] apart; rest begins with a slash and has the query.
func proxied(target string) (sandbox, port, rest string, ok bool) {
	after, ok := strings.CutPrefix(target, "/sandboxes/")
	if !ok {
		return "", "", "", false
	}
	sandbox, after, ok = strings.Cut(after, "/")
	if !ok || sandbox == "" || strings.Contains(sandbox, "?") {
		return "", "", "", false
	}
	if after, ok = strings.CutPrefix(after, "proxy/"); !ok {
		return "", "", "", false
	}
	end := strings.IndexAny(after, "/?")
	if end < 0 {
		end = len(after)
	}
	port, rest = after[:end], after[end:]
	if !strings.HasPrefix(rest, "/") {
		rest = "/" + rest
	}
	return sandbox, port, rest, port != ""
}
