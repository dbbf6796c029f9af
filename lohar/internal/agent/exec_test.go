package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"bhatti/lohar/internal/proto"
)

func sh(script string) []string { return []string{"sh", "-c", script} }

func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !bytes.Contains(b, []byte(") Z "))
}

// pidIn waits for a process id in a file that a command writes.
func pidIn(t *testing.T, file string) (pid int) {
	t.Helper()
	eventually(t, "a pid in "+file, func() bool {
		b, _ := os.ReadFile(file)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		return pid > 0 && bytes.HasSuffix(b, []byte("\n"))
	})
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	return pid
}

func TestExecResults(t *testing.T) {
	_, c := configured(t)
	for _, x := range []struct {
		argv   []string
		code   float64
		signal any
		out    string
		failed string
	}{
		{argv: sh("echo out; echo err >&2; exit 3"), code: 3, out: "out\n"},
		{argv: sh("kill -TERM $$"), code: 143, signal: "TERM"},
		{argv: sh("kill -KILL $$"), code: 137, signal: "KILL"},
		{argv: sh("cat; echo end"), out: "end\n"},
		{argv: []string{"no-such-command-x"}, failed: "exec_not_found"},
		{argv: []string{"/etc/passwd"}, failed: "exec_not_executable"},
		{argv: []string{"/tmp"}, failed: "exec_not_executable"},
	} {
		a := c.do("exec", "argv", x.argv)
		if a.code != x.failed || x.failed == "" && (a.result["exit_code"] != x.code || a.result["signal"] != x.signal || string(a.out) != x.out) {
			t.Errorf("%q: %v %q", x.argv, a.result, a.out)
		}
	}
	if a := c.do("exec", "argv", sh(`pwd; echo "$A"`), "cwd", "/tmp", "env", map[string]string{"A": "b\nc"}); string(a.out) != "/tmp\nb\nc\n" {
		t.Errorf("%q", a.out)
	}
	for cwd, want := range map[string]string{"/etc/passwd": "not_a_directory: working directory: /etc/passwd is not a directory",
		"/nowhere": "not_found: working directory: stat /nowhere: no such file or directory"} {
		if a := c.do("exec", "argv", sh("true"), "cwd", cwd); fmt.Sprintf("%s: %s", a.code, a.result["message"]) != want {
			t.Errorf("%v", a.result)
		}
	}
	if a := c.do("exec", "argv", sh("true"), "cwd", "/nowhere"); a.code != "not_found" {
		t.Error(a.result)
	}
}

func TestStdinReachesItsEnd(t *testing.T) {
	_, c := configured(t)
	c.request("exec", "argv", []string{"cat"}, "stdin", true)
	c.send(proto.Stdin, []byte("abc"))
	c.send(proto.Stdin, []byte("def"))
	c.send(proto.StdinEOF, nil)
	if a := c.answer(); string(a.out) != "abcdef" || a.result["exit_code"] != 0.0 {
		t.Fatal(a.result, string(a.out))
	}
}

func TestLateStdinIsDropped(t *testing.T) {
	_, c := configured(t)
	c.request("exec", "argv", []string{"true"}, "stdin", true)
	c.answer()
	c.send(proto.Stdin, make([]byte, 100_000))
	c.send(proto.Signal, []byte(`{"signal":"INT"}`))
	c.send(proto.StdinEOF, nil)
	if a := c.do("ping"); a.code != "" {
		t.Fatal(a.result)
	}
}

func TestStdinBackPressure(t *testing.T) {
	_, c := configured(t)
	c.request("exec", "argv", []string{"sha1sum"}, "stdin", true)
	block := make([]byte, proto.MaxPayload)
	for range 32 {
		c.send(proto.Stdin, block)
	}
	c.send(proto.StdinEOF, nil)
	if a := c.answer(); !strings.HasPrefix(string(a.out), "57b587e1bf2d09335bdac6db18902d43dfe76449") {
		t.Fatalf("%s", a.out)
	}
}

func TestSignalGoesToTheGroup(t *testing.T) {
	_, c := configured(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	c.request("exec", "argv", sh("sleep 600 & echo $! > "+pidFile+"; wait"))
	child := pidIn(t, pidFile)
	c.send(proto.Signal, []byte(`{"signal":"TERM"}`))
	if a := c.answer(); a.result["signal"] != "TERM" {
		t.Fatal(a.result)
	}
	eventually(t, "the child is gone", func() bool { return !alive(child) })
}

func TestTimeoutKillsTheGroup(t *testing.T) {
	_, c := configured(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	c.request("exec", "argv", sh("sleep 600 & echo $! > "+pidFile+"; wait"), "timeout_ms", 700)
	child := pidIn(t, pidFile)
	if a := c.answer(); a.result["timed_out"] != true || a.result["exit_code"] != 137.0 {
		t.Fatal(a.result)
	}
	eventually(t, "the child is gone", func() bool { return !alive(child) })
}

func TestCloseKillsTheGroup(t *testing.T) {
	for name, script := range map[string]string{"idle": "wait", "busy output": "cat /dev/zero"} {
		t.Run(name, func(t *testing.T) {
			s, c := configured(t)
			pidFile := filepath.Join(t.TempDir(), "pid")
			c.request("exec", "argv", sh("sleep 600 & echo $! > "+pidFile+"; "+script))
			child := pidIn(t, pidFile)
			c.nc.Close()
			eventually(t, "the child is gone", func() bool { return !alive(child) })
			eventually(t, "nothing is counted", func() bool {
				s.activity.mu.Lock()
				defer s.activity.mu.Unlock()
				return s.activity.execs == 0 && s.activity.working == 0
			})
		})
	}
}

func TestCloseIsSeenBehindUnreadStdin(t *testing.T) {
	_, c := configured(t)
	c.request("exec", "argv", []string{"sleep", "600"}, "stdin", true)
	_, b := c.recv()
	var started struct{ Pid int }
	_ = json.Unmarshal(b, &started)
	for range 3 { // the pipe, the feeder, the reader: all full
		c.send(proto.Stdin, make([]byte, 200_000))
	}
	c.nc.Close()
	eventually(t, "the command is gone", func() bool { return !alive(started.Pid) })
}

func TestBackgroundDescendantDoesNotHoldTheRequest(t *testing.T) {
	_, c := configured(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	a := c.do("exec", "argv", sh("sleep 600 & echo $! > "+pidFile+"; echo done; exit 4"))
	if a.result["exit_code"] != 4.0 || string(a.out) != "done\n" {
		t.Fatal(a.result, string(a.out))
	}
	if !alive(pidIn(t, pidFile)) {
		t.Fatal("the descendant was killed")
	}
}

func TestOrphansAreReapedAndStatusesKept(t *testing.T) {
	_, c := configured(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	for range 20 {
		a := c.do("exec", "argv", sh("(sh -c 'echo $$ > "+pidFile+"; exit 9' &) ; exit 7"))
		if a.result["exit_code"] != 7.0 {
			t.Fatal(a.result)
		}
	}
	orphan := pidIn(t, pidFile)
	eventually(t, "the orphan is reaped", func() bool {
		_, err := os.Stat("/proc/" + strconv.Itoa(orphan))
		return err != nil
	})
}

func TestLargeOutputInBoundedMemory(t *testing.T) {
	_, c := configured(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c.request("exec", "argv", []string{"head", "-c", "104857600", "/dev/zero"})
	total, sum := 0, byte(0)
	for {
		typ, b := c.recv()
		if typ == proto.Stdout {
			if len(b) > proto.MaxOutput {
				t.Fatalf("a frame of %d bytes", len(b))
			}
			total += len(b)
			sum |= b[0]
		}
		if typ == proto.Result {
			break
		}
	}
	runtime.ReadMemStats(&after)
	if total != 100<<20 || sum != 0 {
		t.Fatal(total)
	}
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 32<<20 {
		t.Fatalf("the heap grew by %d bytes", grown)
	}
}

func TestSlowHostLosesNoOutput(t *testing.T) {
	_, c := configured(t)
	// More than pipe and socket hold, while a descendant keeps the pipe open.
	c.request("exec", "argv", sh("sleep 600 & echo $! >&2; head -c 20000000 /dev/zero"))
	var a answer
	for len(a.err) == 0 { // its pid comes first
		typ, b := c.recv()
		if typ == proto.Stderr {
			a.err = b
		} else {
			a.out = append(a.out, b...)
			if typ == proto.Started {
				a.out = nil
			}
		}
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(a.err)))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	rest := c.answer()
	if n := len(a.out) + len(rest.out); n != 20000000 {
		t.Fatalf("%d bytes", n)
	}
}

func TestDetachedJobIsCounted(t *testing.T) {
	_, c := configured(t)
	dir := t.TempDir()
	_ = os.Chmod(dir, 0o777)
	out := filepath.Join(dir, "out")
	a := c.do("exec.detach", "argv", sh("echo hello; read x < "+dir+"/nothing; sleep 600"), "output_file", out)
	pid := int(a.result["pid"].(float64))
	t.Cleanup(func() { _ = syscall.Kill(-pid, syscall.SIGKILL) })
	eventually(t, "output", func() bool { b, _ := os.ReadFile(out); return strings.HasPrefix(string(b), "hello\n") })
	if r := c.do("activity").result; r["detached"] != 1.0 || r["idle_ms"] != 0.0 {
		t.Fatal(r)
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	eventually(t, "it is counted no more", func() bool { return c.do("activity").result["detached"] == 0.0 })
	if a := c.do("exec.detach", "argv", sh("true"), "output_file", dir); a.code == "" {
		t.Fatal("a directory was taken for the output file")
	}
	_ = syscall.Mkfifo(dir+"/fifo", 0o666)
	if a := c.do("exec.detach", "argv", sh("true"), "output_file", dir+"/fifo"); a.code != "not_a_file" {
		t.Fatal(a.result)
	}
}

// A log that is emptied while its job runs goes on from its beginning, without a hole.
func TestDetachedOutputIsAppended(t *testing.T) {
	_, c := configured(t)
	dir := t.TempDir()
	_ = os.Chmod(dir, 0o777)
	out := filepath.Join(dir, "out")
	_ = os.WriteFile(out, []byte("of an earlier job"), 0o666)
	_ = os.Chmod(out, 0o666)
	a := c.do("exec.detach", "argv", sh("echo one; while [ ! -e "+dir+"/go ]; do sleep 0.01; done; echo two"), "output_file", out)
	if len(a.result) != 1 || a.result["pid"] == nil {
		t.Fatal(a.result)
	}
	eventually(t, "first line", func() bool { b, _ := os.ReadFile(out); return string(b) == "one\n" })
	_ = os.Truncate(out, 0)
	_ = os.WriteFile(dir+"/go", nil, 0o644)
	eventually(t, "second line", func() bool { b, _ := os.ReadFile(out); return string(b) == "two\n" })
}

func TestProcessesAreListedByTheAgentItself(t *testing.T) {
	_, c := configured(t)
	a := c.do("exec.detach", "argv", []string{"sleep", "333"}, "output_file", "/dev/null")
	pid := a.result["pid"].(float64)
	t.Cleanup(func() { _ = syscall.Kill(int(pid), syscall.SIGKILL) })
	eventually(t, "the job is listed", func() bool {
		a := c.do("processes")
		var batches []process
		for d := json.NewDecoder(bytes.NewReader(a.data)); d.More(); {
			var batch []process
			if err := d.Decode(&batch); err != nil {
				t.Fatal(err)
			}
			batches = append(batches, batch...)
		}
		if float64(len(batches)) != a.result["count"] {
			t.Fatal(len(batches), a.result)
		}
		for _, p := range batches {
			if p.Pid == int(pid) {
				return p.Argv == "sleep 333" && p.PPid == os.Getpid() && p.RSS > 0
			}
		}
		return false
	})
}

func TestADirectoryThatMayNotBeEntered(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("another user: needs root")
	}
	_, addr := startServer(t, Options{Token: testToken, SwitchUser: true})
	c := dialClient(t, addr, testToken)
	dir := t.TempDir()
	_ = os.Chmod(dir, 0o700)
	a := c.do("exec", "argv", sh("true"), "cwd", dir)
	if message, _ := a.result["message"].(string); a.code != "permission" || !strings.Contains(message, "may not enter "+dir) {
		t.Fatal(a.result)
	}
}

func TestActivityIdleTime(t *testing.T) {
	_, c := configured(t)
	c.do("exec", "argv", sh("true"))
	first := c.do("activity").result["idle_ms"].(float64)
	eventually(t, "idle time grows although activity is asked for", func() bool {
		return c.do("activity").result["idle_ms"].(float64) > first+20
	})
	c.do("exec", "argv", sh("true"))
	if r := c.do("activity").result; r["execs"] != 0.0 || r["connections"] != 1.0 {
		t.Fatal(r)
	}
}
