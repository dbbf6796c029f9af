// Package daemon is the edge's side of its conversation with the daemon: src/edge/protocol.ts.
package daemon

import "encoding/json"

// Begin asks for leave to pass a request on. The daemon answers when the sandbox is hot, or says why not.
type Begin struct {
	Do string `json:"do"`
	ID uint64 `json:"id"`
	// "path": below the API, with the caller's key. "alias", "login": see below.
	Kind string `json:"kind"`
	// Of "path": as they stand in the target, not decoded.
	Sandbox string `json:"sandbox,omitempty"`
	Port    string `json:"port,omitempty"`
	Auth    string `json:"auth,omitempty"`
	// Of "alias" and "login": a published port, and a password for one.
	Alias   string `json:"alias,omitempty"`
	HTTPS   bool   `json:"https,omitempty"`
	Browser bool   `json:"browser,omitempty"`
	// Our cookie, and the token of a link.
	Cookie   string `json:"cookie,omitempty"`
	Token    string `json:"token,omitempty"`
	Password string `json:"password,omitempty"`
	// Path and query without the token.
	Next string `json:"next,omitempty"`

	Method string `json:"method"`
	// Path without the query, for the log.
	Path string `json:"path"`
	Peer string `json:"peer"`
}

// Answer to a Begin: one of the two is there.
type Answer struct {
	Grant   *Grant   `json:"grant"`
	Refusal *Refusal `json:"refusal"`
}

// Grant lets a request through to one port of one machine.
type Grant struct {
	// Names machine, its present life and the port: connections are shared among requests with the same.
	Target string `json:"target"`
	// For messages about it.
	Sandbox string `json:"sandbox"`
	Port    int    `json:"port"`
	// Headers that the answer carries.
	Headers map[string]string `json:"headers"`
	// Authorization was for us.
	UsedAuth bool `json:"used_auth"`
	// Told when the sandbox is stopped or destroyed meanwhile.
	Revoked <-chan *Refusal `json:"-"`
	ID      uint64          `json:"-"`
}

// Refusal is an answer instead of the guest's.
type Refusal struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    json.RawMessage   `json:"body"`
}

func (r *Refusal) Error() string { return string(r.Body) }

// End tells that a request is over, or is no longer wanted.
type End struct {
	Do     string `json:"do"`
	ID     uint64 `json:"id"`
	Status int    `json:"status"`
	// Bytes of bodies.
	In  int64 `json:"in"`
	Out int64 `json:"out"`
}
