package front

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"time"

	"bhatti/edge/internal/daemon"
)

const (
	// An idle connection counts as work in the guest: it keeps the machine awake.
	idleFor = 2 * time.Second
	// Connections to one port; others wait. The daemon has 300 streams for one guest.
	maxUpstream = 250
	// A head of an answer, bytes.
	maxAnswerHead = 64 << 10
)

// guests passes requests on to what listens in sandboxes.
type guests struct {
	control *daemon.Control
	proxy   *httputil.ReverseProxy
	logger  *log.Logger
}

type passingKey struct{}

// passing is one request on its way to a guest.
type passing struct {
	grant *daemon.Grant
	// What the guest is asked for: path and query.
	target string
	client client
	// Name of a published port; "" = the caller came with a key.
	alias string
	// Path below which the client sees the guest's root; "" = at the root.
	prefix string
	// Prefix of names of cookies; "" = they are passed as they are.
	cookies string
	// Why it was cut.
	refusal *daemon.Refusal
}

func newGuests(control *daemon.Control, logger *log.Logger) *guests {
	g := &guests{control: control, logger: logger}
	g.proxy = &httputil.ReverseProxy{
		Transport:      g.transport(),
		FlushInterval:  -1,
		BufferPool:     buffers,
		ErrorLog:       log.New(discard{}, "", 0),
		Rewrite:        rewrite,
		ModifyResponse: modify,
		ErrorHandler:   failed,
	}
	return g
}

// transport keeps connections for requests that may be sent twice. A guest may close one at the moment at which a request is
// sent on it; whoever changes something by it gets a connection of its own, so that nothing is lost and nothing done twice.
func (g *guests) transport() http.RoundTripper {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return g.control.Dial(ctx, ctx.Value(passingKey{}).(*passing).grant)
	}
	kept := &http.Transport{
		DialContext:            dial,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    64,
		MaxConnsPerHost:        maxUpstream,
		IdleConnTimeout:        idleFor,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxAnswerHead,
		ReadBufferSize:         32 << 10,
		WriteBufferSize:        32 << 10,
	}
	own := kept.Clone()
	own.DisableKeepAlives = true
	return choose{kept, own}
}

type choose struct{ kept, own *http.Transport }

func (c choose) RoundTrip(r *http.Request) (*http.Response, error) {
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
	if safe && r.Body == nil && r.Header.Get("Upgrade") == "" {
		return c.kept.RoundTrip(r)
	}
	if r.Header.Get("Upgrade") != "" {
		// It asks for the connection; 'close' would refuse it.
		return c.kept.RoundTrip(r)
	}
	return c.own.RoundTrip(r)
}

// byPath serves /sandboxes/REF/proxy/PORT/: the caller has a key, which stays here.
func (g *guests) byPath(w http.ResponseWriter, r *http.Request, c client, sandbox, port, rest string) {
	prefix := "/sandboxes/" + sandbox + "/proxy/" + port
	g.pass(w, r, daemon.Begin{
		Kind: "path", Sandbox: sandbox, Port: port, Auth: r.Header.Get("Authorization"),
		Method: r.Method, Path: r.URL.Path, Peer: c.address,
	}, &passing{target: rest, client: c, prefix: prefix, cookies: cookiesOf(sandbox, port)})
}

var errPatience = errors.New("it takes longer")

// begin waits for the sandbox; whoever looks at a page sees after a second that it takes longer, and asks again.
func (g *guests) begin(w http.ResponseWriter, r *http.Request, begin daemon.Begin) (*daemon.Grant, error) {
	ctx := r.Context()
	if begin.Browser && r.Method == http.MethodGet {
		limited, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
		defer cancel()
		ctx = limited
	}
	return g.control.Begin(ctx, begin)
}

func (g *guests) pass(w http.ResponseWriter, r *http.Request, begin daemon.Begin, p *passing) {
	grant, err := g.begin(w, r, begin)
	if err != nil {
		var refusal *daemon.Refusal
		switch {
		case errors.Is(err, errPatience):
			writeError(w, r, failure{503, "waking", "The sandbox behind this page is waking up.", "", map[string]string{"Retry-After": "1"}})
		case errors.As(err, &refusal):
			writeRefusal(w, r, refusal)
		case r.Context().Err() != nil:
			panic(http.ErrAbortHandler)
		default:
			writeError(w, r, failure{503, "unavailable", "the daemon does not answer", "try again in a moment", map[string]string{"Retry-After": "1"}})
		}
		return
	}
	p.grant = grant
	for name, value := range grant.Headers {
		w.Header().Set(name, value)
	}
	ctx, cancel := context.WithCancel(r.Context())
	out := &watched{ResponseWriter: w, status: 200}
	done := make(chan struct{})
	defer func() {
		// Also when the handler is left by a panic: a client or a guest that went away in the middle of a body.
		close(done)
		cancel()
		g.control.End(grant.ID, out.status, out.in.Load(), out.out.Load())
	}()
	go func() {
		select {
		case p.refusal = <-grant.Revoked:
			cancel()
		case <-done:
		}
	}()
	inner := r.WithContext(context.WithValue(ctx, passingKey{}, p))
	if r.Body != nil && r.Body != http.NoBody {
		inner.Body = counter{r.Body, &out.in}
	}
	g.proxy.ServeHTTP(out, inner)
}

func passingOf(r *http.Request) *passing { return r.Context().Value(passingKey{}).(*passing) }

func rewrite(pr *httputil.ProxyRequest) {
	p := passingOf(pr.In)
	out := pr.Out
	out.URL.Scheme, out.URL.Host = "http", p.grant.Target
	setTarget(out, p.target)
	out.Host = "localhost:" + strconv.Itoa(p.grant.Port)
	out.Header.Set("X-Forwarded-For", p.client.forwarded)
	out.Header.Set("X-Forwarded-Proto", p.client.proto)
	out.Header.Set("X-Forwarded-Host", pr.In.Host)
	if p.prefix != "" {
		out.Header.Set("X-Forwarded-Prefix", p.prefix)
		// The key of the API is not the sandbox's business, nor are cookies of whatever else has the same host.
		out.Header.Del("Authorization")
		keepCookies(out.Header, p.cookies)
	}
	if p.alias != "" {
		if p.grant.UsedAuth {
			out.Header.Del("Authorization")
		}
		dropCookies(out.Header)
	}
	out.Header.Del(peerHeader)
}

func failed(w http.ResponseWriter, r *http.Request, err error) {
	p := passingOf(r)
	switch {
	case p.refusal != nil:
		writeRefusal(w, r, p.refusal)
	case errors.Is(err, context.Canceled):
		panic(http.ErrAbortHandler)
	default:
		writeError(w, r, failureOf(p, err))
	}
}
