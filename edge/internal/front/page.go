package front

import (
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"strconv"
	"strings"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// page is an answer of ours to whoever looks at a published port: HTML for people, JSON for programs.
type page struct {
	http.ResponseWriter
	r       *http.Request
	browser bool
	alias   string
}

func (p *page) Unwrap() http.ResponseWriter { return p.ResponseWriter }

type pageData struct {
	Title, Message, Remedy, RequestID, Next string
	Login                                   bool
	// Seconds after which a browser asks again; 0 = never.
	Refresh int
}

// asPage finds the page below what else wraps an answer.
func asPage(w http.ResponseWriter) *page {
	for {
		switch inner := w.(type) {
		case *page:
			return inner
		case interface{ Unwrap() http.ResponseWriter }:
			w = inner.Unwrap()
		default:
			return nil
		}
	}
}

var titles = map[string]string{
	"nothing_listens": "Nothing listens there yet",
	"closed_early":    "The service closed the connection",
	"bad_answer":      "The service does not speak HTTP",
	"not_found":       "Nothing is published here",
	"unauthorized":    "Password",
	"forbidden":       "This page is not public",
	"rate_limited":    "Too many requests",
	"waking":          "One moment",
}

// writeTo answers with what is in a JSON error, as HTML when a person looks at it. Reports whether it did.
func (p *page) writeTo(w http.ResponseWriter, status int, headers map[string]string, body []byte) bool {
	if !p.browser || status < 400 {
		return false
	}
	var e struct {
		Error, Code, Remedy string
		RequestID           string `json:"request_id"`
	}
	if json.Unmarshal(body, &e) != nil {
		return false
	}
	data := pageData{Title: titles[e.Code], Message: e.Error, Remedy: e.Remedy, RequestID: e.RequestID}
	if data.Title == "" {
		data.Title = "Not available now"
	}
	switch e.Code {
	case "unauthorized":
		data.Login = true
		data.Remedy = ""
		data.Next, _ = withoutToken(targetOf(p.r))
		if p.r.URL.Path == loginPath {
			data.Next = p.r.PostForm.Get("next")
		}
	case "nothing_listens", "closed_early":
		data.Refresh = 5
	case "waking":
		data.Refresh = 1
	}
	var text strings.Builder
	if pageTemplate.Execute(&text, data) != nil {
		return false
	}
	h := w.Header()
	for name, value := range headers {
		h.Set(name, value)
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(text.Len()))
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Robots-Tag", "noindex")
	w.WriteHeader(status)
	if p.r.Method != http.MethodHead {
		_, _ = w.Write([]byte(text.String()))
	}
	return true
}
