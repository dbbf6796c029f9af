package front

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"

	"bhatti/edge/internal/daemon"
)

// failure is an answer of ours in place of the guest's.
type failure struct {
	status  int
	code    string
	message string
	remedy  string
	headers map[string]string
}

func writeError(w http.ResponseWriter, r *http.Request, f failure) {
	body := map[string]string{"error": f.message, "code": f.code}
	if f.remedy != "" {
		body["remedy"] = f.remedy
	}
	if id := w.Header().Get("X-Request-Id"); id != "" {
		body["request_id"] = id
	}
	text, _ := json.Marshal(body)
	writeAnswer(w, r, f.status, f.headers, append(text, '\n'))
}

func writeRefusal(w http.ResponseWriter, r *http.Request, refusal *daemon.Refusal) {
	writeAnswer(w, r, refusal.Status, refusal.Headers, append([]byte(refusal.Body), '\n'))
}

func writeAnswer(w http.ResponseWriter, r *http.Request, status int, headers map[string]string, body []byte) {
	if p := asPage(w); p != nil && p.writeTo(w, status, headers, body) {
		return
	}
	for name, value := range headers {
		w.Header().Set(name, value)
	}
	if status < 400 {
		body = nil // on to somewhere else
	} else {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// failureOf says what became of a request that a guest was to answer.
func failureOf(p *passing, err error) failure {
	grant := p.grant
	at := fmt.Sprintf("port %d of sandbox %q", grant.Port, grant.Sandbox)
	look := fmt.Sprintf("bhatti ports %s shows what listens there", grant.Sandbox)
	if p.alias != "" {
		// Whoever looks at a page need not know what the sandbox is called.
		at = fmt.Sprintf("port %d of this sandbox", grant.Port)
		look = fmt.Sprintf("start the server on port %d (any address will do, 127.0.0.1 too), then reload", grant.Port)
	}
	var tunnel *daemon.TunnelError
	if errors.As(err, &tunnel) {
		if tunnel.Code == "connection_refused" {
			return failure{502, "nothing_listens", "bad gateway: nothing listens on " + at, look, nil}
		}
		return failure{502, "unavailable", fmt.Sprintf("bad gateway: %s cannot be reached: %s", at, tunnel.Message), look, nil}
	}
	early := failure{502, "closed_early", "bad gateway: what listens on " + at + " closed the connection without an answer", look, nil}
	for _, closed := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, closed) {
			return early
		}
	}
	if text := err.Error(); strings.Contains(text, "server closed") || strings.HasSuffix(text, "EOF") {
		return early
	}
	return failure{502, "bad_answer", "bad gateway: what listens on " + at + " did not answer with HTTP", look, nil}
}
