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
	for name, value := range headers {
		w.Header().Set(name, value)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// failureOf says what became of a request that a guest was to answer.
func failureOf(grant *daemon.Grant, err error) failure {
	look := fmt.Sprintf("bhatti ports %s shows what listens there", grant.Sandbox)
	var tunnel *daemon.TunnelError
	if errors.As(err, &tunnel) {
		if tunnel.Code == "connection_refused" {
			return failure{502, "nothing_listens", fmt.Sprintf("bad gateway: nothing listens on port %d of sandbox %q", grant.Port, grant.Sandbox), look, nil}
		}
		return failure{502, "unavailable", fmt.Sprintf("bad gateway: port %d of sandbox %q cannot be reached: %s", grant.Port, grant.Sandbox, tunnel.Message), look, nil}
	}
	text := err.Error()
	for _, closed := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, closed) {
			return closedEarly(grant, look)
		}
	}
	if strings.Contains(text, "server closed") || strings.HasSuffix(text, "EOF") {
		return closedEarly(grant, look)
	}
	return failure{502, "bad_answer", fmt.Sprintf("bad gateway: what listens on port %d of sandbox %q did not answer with HTTP", grant.Port, grant.Sandbox), look, nil}
}

func closedEarly(grant *daemon.Grant, look string) failure {
	return failure{502, "closed_early", fmt.Sprintf("bad gateway: what listens on port %d of sandbox %q closed the connection without an answer", grant.Port, grant.Sandbox), look, nil}
}
