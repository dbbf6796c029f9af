package agent

import (
	"encoding/json"
	"time"

	"bhatti/lohar/internal/proto"
)

// operation is a row of the dispatch table.
type operation struct {
	handle func(c *conn, payload []byte) (any, error)
	// early: served before the first configure, too.
	early bool
	// work: counts as activity.
	work bool
	// tunnel: the connection serves no further request.
	tunnel bool
	// late says which frames may still arrive after the request has ended; they are dropped.
	late func(proto.Type) bool
}

var operations map[string]operation

func init() { // not a literal: handlers refer to the table through conn
	operations = map[string]operation{
		"ping":          {handle: ping, early: true},
		"warm":          {handle: warm, early: true},
		"configure":     {handle: parsed(configure), early: true, work: true},
		"exec":          {handle: parsed(exec), work: true, late: lateStdin},
		"exec.detach":   {handle: parsed(detach), work: true},
		"file.read":     {handle: parsed(fileRead), work: true},
		"file.write":    {handle: parsed(fileWrite), work: true, late: lateData},
		"file.stat":     {handle: parsed(fileStat), work: true},
		"file.list":     {handle: parsed(fileList), work: true},
		"secrets":       {handle: parsed(replaceSecrets), work: true},
		"activity":      {handle: reportActivity},
		"ports":         {handle: ports},
		"processes":     {handle: processes},
		"sync":          {handle: syncAll},
		"freeze":        {handle: freeze},
		"thaw":          {handle: thaw},
		"forward":       {handle: parsed(forward), work: true, tunnel: true},
		"prepare_clone": {handle: parsed(prepareClone)},
		"resume_source": {handle: resumeSource},
		"poweroff":      {handle: parsed(poweroff)},
	}
}

// parsed decodes the request into the handler's own type.
func parsed[T any](f func(*conn, *T) (any, error)) func(*conn, []byte) (any, error) {
	return func(c *conn, payload []byte) (any, error) {
		v := new(T)
		if err := json.Unmarshal(payload, v); err != nil {
			return nil, fail("bad_request", err.Error())
		}
		return f(c, v)
	}
}

// empty is the result of operations that have nothing to tell.
type empty struct{}

func ping(*conn, []byte) (any, error) { return empty{}, nil }

func lateStdin(t proto.Type) bool {
	return t == proto.Stdin || t == proto.StdinEOF || t == proto.Signal
}

// either: a host that was cut off in the middle of its input may send the rest even after its next request.
func either(a, b func(proto.Type) bool) func(proto.Type) bool {
	if a == nil {
		return b
	}
	return func(t proto.Type) bool { return a(t) || b(t) }
}

func lateData(t proto.Type) bool { return t == proto.Data || t == proto.End }

// admit refuses what the state of the agent does not allow.
func (s *Server) admit(op operation) error {
	configured, failed, _ := s.state()
	if op.early || configured && !failed {
		return nil
	}
	return fail("not_configured", "configure the agent first")
}

// stepClock corrects the wall clock when it is off by more than maxClockSkew.
func (s *Server) stepClock(unixMS int64) error {
	now := time.UnixMilli(unixMS)
	if now.Year() < 2020 || now.Year() > 2199 {
		return fail("bad_request", "now must be the wall clock in Unix milliseconds")
	}
	if time.Until(now).Abs() <= maxClockSkew {
		return nil
	}
	return s.Machine.SetClock(now)
}
