package agent

import (
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"bhatti/lohar/internal/machine"
)

// fakeMachine records the order of what is done to it and fails at one step.
type fakeMachine struct {
	machine.Recorder
	mu     sync.Mutex
	calls  []string
	failAt string
}

func (m *fakeMachine) call(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, name)
	if m.failAt == name {
		return errors.New("made to fail")
	}
	return nil
}

func (m *fakeMachine) set(failAt string) {
	m.mu.Lock()
	m.failAt, m.calls = failAt, nil
	m.mu.Unlock()
}

func (m *fakeMachine) order() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.calls, " ")
}

func (m *fakeMachine) AddEntropy([]byte) error        { return m.call("entropy") }
func (m *fakeMachine) SetClock(time.Time) error       { return m.call("clock") }
func (m *fakeMachine) SetHostname(string) error       { return m.call("hostname") }
func (m *fakeMachine) FlushNeighbours() error         { return m.call("neighbours") }
func (m *fakeMachine) FreezeUser(time.Duration) error { return m.call("freeze") }
func (m *fakeMachine) ThawUser() error                { return m.call("thaw") }
func (m *fakeMachine) Mount(machine.Volume) error     { return m.call("mount") }

func identityRequest(changes ...any) []any {
	m := map[string]any{
		"kind": "boot", "generation": 1, "entropy": base64.StdEncoding.EncodeToString(make([]byte, 64)),
		"token": testToken, "hostname": "dev", "resolver": []string{"169.254.77.1"}, "search": []string{"internal"}, "grow_root": false,
	}
	for i := 0; i < len(changes); i += 2 {
		m[changes[i].(string)] = changes[i+1]
	}
	var list []any
	for k, v := range m {
		list = append(list, k, v)
	}
	return list
}

func TestConfigureOrderAndToken(t *testing.T) {
	m := &fakeMachine{}
	_, addr := startServer(t, Options{Machine: m})
	c, other := dialClient(t, addr, ""), dialClient(t, addr, "")
	a := c.do("configure", identityRequest("env", map[string]string{"GREETING": "hi"}, "volumes",
		[]any{map[string]any{"device": "/dev/vdb", "mount": "/data", "fs": "ext4", "read_only": false}})...)
	if a.code != "" || a.result["generation"] != 1.0 {
		t.Fatal(a.result)
	}
	if got := m.order(); got != "entropy clock hostname neighbours mount thaw" {
		t.Fatal(got)
	}
	other.expectClosed("")
	if a := c.do("exec", "argv", sh("echo $GREETING")); string(a.out) != "hi\n" {
		t.Fatal(a.result)
	}
	late := rawClient(t, addr)
	late.greet("x")
	late.expectClosed("unauthorized")
	dialClient(t, addr, testToken)
}

func TestGenerations(t *testing.T) {
	m := &fakeMachine{}
	_, addr := startServer(t, Options{Machine: m})
	c := dialClient(t, addr, "")
	c.do("configure", identityRequest("generation", 5)...)
	m.set("")
	if a := c.do("configure", identityRequest("generation", 4)...); a.code != "stale_generation" {
		t.Fatal(a.result)
	}
	if a := c.do("configure", identityRequest("generation", 5, "token", strings.Repeat("z", 64))...); a.code != "" || m.order() != "" {
		t.Fatal(a.result, m.order())
	}
	dialClient(t, addr, testToken)
	if a := c.do("configure", identityRequest("generation", 6, "kind", "wake")...); a.code != "" || m.order() != "entropy clock neighbours thaw" {
		t.Fatal(a.result, m.order())
	}
}

func TestConfigureFailsClosed(t *testing.T) {
	for _, step := range []string{"entropy", "clock", "hostname", "neighbours", "mount"} {
		t.Run(step, func(t *testing.T) {
			m := &fakeMachine{}
			_, addr := startServer(t, Options{Machine: m})
			c := dialClient(t, addr, "")
			c.do("configure", identityRequest()...)
			c.do("prepare_clone", "timeout_ms", 600_000)
			m.set(step)
			members := identityRequest("generation", 2, "kind", "clone", "token", strings.Repeat("n", 64), "volumes",
				[]any{map[string]any{"device": "/dev/vdb", "mount": "/data", "fs": "ext4"}})
			wanted := map[string]string{"mount": "volume"}[step]
			if wanted == "" {
				wanted = step
			}
			a := c.do("configure", members...)
			if message, _ := a.result["message"].(string); a.code != "configure_failed" || a.result["step"] != wanted ||
				!strings.HasPrefix(message, wanted+": ") || !strings.HasSuffix(message, "made to fail") {
				t.Fatal(a.result)
			}
			if a := c.do("exec", "argv", sh("true")); a.code != "not_configured" {
				t.Fatal(a.result)
			}
			if a := c.do("configure", identityRequest("generation", 2, "kind", "wake")...); a.code != "not_configured" {
				t.Fatal("a wake covered up the failed clone:", a.result)
			}
			if strings.Contains(m.order(), "thaw") {
				t.Fatal("user processes run in a clone without identity")
			}
			m.set("")
			if a := c.do("configure", members...); a.code != "" {
				t.Fatal(a.result)
			}
			dialClient(t, addr, strings.Repeat("n", 64))
		})
	}
}

func TestConfigureIsValidated(t *testing.T) {
	m := &fakeMachine{}
	_, addr := startServer(t, Options{Machine: m})
	c := dialClient(t, addr, "")
	for _, change := range [][]any{
		{"kind", "x"}, {"entropy", "AAAA"}, {"token", "short"}, {"hostname", "a b"}, {"hostname", "-a"}, {"hostname", strings.Repeat("a", 64)}, {"hostname", ""}, {"machine_id", "x"},
		{"resolver", []string{"not-an-ip"}}, {"search", []string{"a b"}}, {"env", map[string]string{"A=B": ""}},
		{"files", []any{map[string]any{"path": "rel", "content": "", "mode": ""}}},
		{"files", []any{map[string]any{"path": "/x", "content": "!", "mode": ""}}},
		{"volumes", []any{map[string]any{"device": "/dev/vda", "mount": "/x", "fs": "ext4"}}},
		{"volumes", []any{map[string]any{"device": "/dev/vdb", "mount": "/", "fs": "ext4"}}},
		{"volumes", []any{map[string]any{"device": "/dev/vdb", "mount": "/x", "fs": "proc"}}},
	} {
		if a := c.do("configure", identityRequest(change...)...); a.code != "bad_request" {
			t.Errorf("%v: %v", change, a.result)
		}
	}
	if m.order() != "" {
		t.Fatal("an invalid request had an effect:", m.order())
	}
}

func TestWarmOnlyBeforeConfigure(t *testing.T) {
	m := &fakeMachine{}
	_, addr := startServer(t, Options{Machine: m})
	c := dialClient(t, addr, "")
	if a := c.do("warm"); a.code != "" || m.order() != "entropy hostname neighbours entropy hostname neighbours" {
		t.Fatal(a.result, m.order())
	}
	if a := c.do("exec", "argv", sh("true")); a.code != "not_configured" {
		t.Fatal(a.result)
	}
	c.do("configure", identityRequest()...)
	m.set("")
	if a := c.do("warm"); a.code != "" || m.order() != "" {
		t.Fatal("warmed up after configure:", m.order())
	}
}

func TestPrepareCloneThawsByItself(t *testing.T) {
	m := &fakeMachine{}
	s, addr := startServer(t, Options{Machine: m, Token: testToken})
	t.Cleanup(func() { s.table.SetFrozen(false) })
	c := dialClient(t, addr, testToken)
	c.do("prepare_clone", "timeout_ms", 300_000)
	if a := c.do("exec", "argv", sh("true")); a.code != "busy" {
		t.Fatal(a.result)
	}
	c.do("resume_source")
	if a := c.do("exec", "argv", sh("true")); a.code != "" {
		t.Fatal(a.result)
	}
	c.do("prepare_clone", "timeout_ms", 1)
	eventually(t, "user processes run again", func() bool { return c.do("exec", "argv", sh("true")).code == "" })
}
