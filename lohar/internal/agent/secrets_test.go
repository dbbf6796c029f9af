package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rooted is a machine with a root file system to write to.
type rooted struct {
	fakeMachine
	root string
}

func (r *rooted) Root() string { return r.root }

func secretServer(t *testing.T) (c *client, dir string) {
	t.Helper()
	m := &rooted{root: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(m.root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	before := logDirs
	logDirs = []string{m.root}
	t.Cleanup(func() { logDirs = before })
	s, addr := startServer(t, Options{Machine: m})
	s.secrets.Dir, s.secrets.Mount = filepath.Join(m.root, "secrets"), nil
	return dialClient(t, addr, ""), s.secrets.Dir
}

func secret(path, content string) map[string]any {
	return map[string]any{"path": path, "content": []byte(content), "mode": "0400", "owner": ""}
}

func TestSecretsAreThereBeforeInitAndItsVariablesAreNotKept(t *testing.T) {
	c, dir := secretServer(t)
	key, seen := filepath.Join(dir, "KEY"), filepath.Join(t.TempDir(), "seen")
	a := c.do("configure", identityRequest("secret_files", []any{secret(key, "file-value")},
		"init", "{ printf %s \"$TOKEN\"; cat "+key+"; } >"+seen+".new && mv "+seen+".new "+seen,
		"init_env", map[string]string{"TOKEN": "env-value "})...)
	if a.code != "" || a.result["secret_problems"] != nil {
		t.Fatal(a.result)
	}
	eventually(t, "init has run", func() bool { _, err := os.Stat(seen); return err == nil })
	if b, _ := os.ReadFile(seen); string(b) != "env-value file-value" {
		t.Fatalf("%q", b)
	}
	if a := c.do("exec", "argv", sh("echo [$TOKEN]")); string(a.out) != "[]\n" {
		t.Fatalf("the agent kept a secret: %q", a.out)
	}
}

func TestEveryConfigureBringsTheWholeSet(t *testing.T) {
	c, dir := secretServer(t)
	a, b := filepath.Join(dir, "A"), filepath.Join(dir, "B")
	c.do("configure", identityRequest("secret_files", []any{secret(a, "1"), secret(b, "1")})...)
	if r := c.do("secrets", "generation", 1, "files", []any{secret(a, "2")}); r.code != "" {
		t.Fatal(r.result)
	}
	if text, _ := os.ReadFile(a); string(text) != "2" {
		t.Fatalf("%q", text)
	}
	if _, err := os.Lstat(b); !os.IsNotExist(err) {
		t.Fatal("still there")
	}
	// Absent: as it is. An empty list: none.
	c.do("configure", identityRequest("generation", 2, "kind", "wake")...)
	if text, _ := os.ReadFile(a); string(text) != "2" {
		t.Fatalf("%q", text)
	}
	if r := c.do("secrets", "generation", 1, "files", []any{secret(a, "late")}); r.code != "" {
		t.Fatal("no set came with generation 2, so 1 is the last one: ", r.result)
	}
	c.do("configure", identityRequest("generation", 3, "kind", "wake", "secret_files", []any{})...)
	if _, err := os.Lstat(a); !os.IsNotExist(err) {
		t.Fatal("still there")
	}
	if r := c.do("secrets", "generation", 2, "files", []any{secret(a, "late")}); r.code != "stale_generation" {
		t.Fatal(r.result)
	}
}

func TestProblemsAndRefusalsNameThePathOnly(t *testing.T) {
	c, dir := secretServer(t)
	c.do("configure", identityRequest()...)
	path := filepath.Join(dir, "A")
	nobody := secret(path, "s3cr3t")
	nobody["owner"] = "nobody-of-that-name"
	r := c.do("secrets", "generation", 1, "files", []any{nobody, secret("/proc/x/y", "s3cr3t")})
	problems, _ := r.result["secret_problems"].([]any)
	if len(problems) != 2 || !strings.HasPrefix(problems[0].(string), path+": there is no user") || !strings.HasPrefix(problems[1].(string), "/proc/x/y") {
		t.Fatal(r.result)
	}
	for _, change := range []map[string]any{{"path": "rel"}, {"mode": "9"}, {"mode": "4755"}, {"content": "!"}} {
		f := secret(path, "s3cr3t")
		for k, v := range change {
			f[k] = v
		}
		r := c.do("secrets", "generation", 1, "files", []any{f})
		if message, _ := r.result["message"].(string); r.code != "bad_request" || strings.Contains(message, "s3cr3t") {
			t.Error(change, r.result)
		}
		if r := c.do("configure", identityRequest("generation", 9, "secret_files", []any{f})...); r.code != "bad_request" {
			t.Error(change, r.result)
		}
	}
}
