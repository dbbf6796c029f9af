package front

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"
)

// peerHeader tells the daemon who asks; a client's own is dropped.
const peerHeader = "X-Bhatti-Peer"

// newAPI passes requests on to the daemon's own server as they are.
func newAPI(socket string, logger *log.Logger) *httputil.ReverseProxy {
	var dialer net.Dialer
	return &httputil.ReverseProxy{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", socket)
			},
			DisableCompression:    true,
			MaxIdleConnsPerHost:   64,
			IdleConnTimeout:       30 * time.Second,
			ExpectContinueTimeout: time.Second,
			ReadBufferSize:        32 << 10,
			WriteBufferSize:       32 << 10,
		},
		FlushInterval: -1,
		BufferPool:    buffers,
		ErrorLog:      logger,
		Rewrite: func(p *httputil.ProxyRequest) {
			c := p.In.Context().Value(clientKey{}).(client)
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "daemon"
			setTarget(p.Out, targetOf(p.In))
			p.Out.Header.Set(peerHeader, c.address)
			p.Out.Header.Set("X-Forwarded-Proto", c.proto)
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, context.Canceled) {
				panic(http.ErrAbortHandler)
			}
			var tooLarge *http.MaxBytesError
			if errors.As(err, &tooLarge) {
				writeError(w, r, failure{413, "too_large", "the request is too large", "", nil})
				return
			}
			logger.Printf("the daemon does not answer: %v", err)
			writeError(w, r, failure{503, "unavailable", "the daemon does not answer", "try again in a moment", map[string]string{"Retry-After": "1"}})
		},
	}
}

// setTarget makes out ask for exactly target: no byte of an encoded path changes on the way.
func setTarget(out *http.Request, target string) {
	path, query, _ := strings.Cut(target, "?")
	out.URL.RawQuery = query
	out.URL.ForceQuery = strings.HasSuffix(target, "?")
	// Opaque is sent as it is, except that two slashes would make it an absolute target.
	if !strings.HasPrefix(path, "//") {
		out.URL.Opaque = path
	} else {
		out.URL.Path, out.URL.RawPath = path, ""
	}
}
