package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bhatti/lohar/internal/proto"
)

func (c *client) writeFile(path string, members []any, chunks ...string) answer {
	c.t.Helper()
	c.request("file.write", append([]any{"path", path}, members...)...)
	for _, chunk := range chunks {
		c.send(proto.Data, []byte(chunk))
	}
	c.send(proto.End, nil)
	return c.answer()
}

func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Fatalf("%s holds %q, want %q", dir, names, want)
	}
}

func TestWriteAndRead(t *testing.T) {
	_, c := configured(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "a/b/file")
	if a := c.writeFile(path, []any{"mode", "0640", "size", 6}, "abc", "def"); a.result["size"] != 6.0 {
		t.Fatal(a.result)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Fatal(info, err)
	}
	only(t, filepath.Dir(path), "file")
	a := c.do("file.read", "path", path)
	if string(a.data) != "abcdef" || string(a.started) != `{"length":6,"mode":"0640","size":6}` || a.result["sent"] != 6.0 {
		t.Fatalf("%s %s %v", a.data, a.started, a.result)
	}
	// What exists keeps its mode unless one is asked for.
	c.writeFile(path, nil, "x")
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o640 {
		t.Error(info.Mode())
	}
	c.writeFile(path, []any{"mode", "0600"}, "x")
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Error(info.Mode())
	}
}

func TestFailedWritesLeaveNothing(t *testing.T) {
	_, c := configured(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	c.writeFile(path, nil, "old")
	for name, x := range map[string]struct {
		path    string
		members []any
		code    string
	}{
		"too short":      {path, []any{"size", 99}, "bad_request"},
		"too long":       {path, []any{"size", 2}, "bad_request"},
		"over the bound": {path, []any{"max_bytes", 2}, "too_large"},
		"announced":      {path, []any{"max_bytes", 2, "size", 3}, "too_large"},
		"mode":           {path, []any{"mode", "99"}, "bad_request"},
		"owner":          {path, []any{"owner", "nobody-of-that-name"}, "bad_request"},
		"device":         {"/dev/null", nil, "not_a_file"},
		"directory":      {dir, nil, "is_a_directory"},
		"below a file":   {path + "/x", nil, "not_a_directory"},
		"relative":       {"x", nil, "bad_request"},
		"NUL":            {"/tmp/a\x00b", nil, "bad_request"},
	} {
		if a := c.writeFile(x.path, x.members, "a", "bc"); a.code != x.code {
			t.Errorf("%s: %v", name, a.result)
		}
	}
	only(t, dir, "file")
	if b, _ := os.ReadFile(path); string(b) != "old" {
		t.Fatalf("%s", b)
	}
}

func TestCancelledWriteLeavesNothing(t *testing.T) {
	s, c := configured(t)
	dir := t.TempDir()
	c.request("file.write", "path", filepath.Join(dir, "file"))
	c.send(proto.Data, []byte("half"))
	c.nc.Close()
	eventually(t, "the request is over", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.conns) == 0
	})
	only(t, dir)
}

func TestFullDiskIsToldAndTidied(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts a file system: needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("no mount here:", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
	_, c := configured(t)
	if a := c.writeFile(filepath.Join(dir, "file"), nil, strings.Repeat("x", 200_000), "y"); a.code != "no_space" {
		t.Fatal(a.result)
	}
	only(t, dir)
	c.do("ping")
}

func TestReadRanges(t *testing.T) {
	_, c := configured(t)
	path := filepath.Join(t.TempDir(), "file")
	long := strings.Repeat("y", 300_000)
	content := "one\r\ntwo\n" + long + "\nlast"
	_ = os.WriteFile(path, []byte(content), 0o644)
	for _, x := range []struct {
		members []any
		want    string
	}{
		{nil, content},
		{[]any{"offset", 2, "length", 3}, "e\r\n"},
		{[]any{"offset", 5}, content[5:]},
		{[]any{"length", 0}, ""},
		{[]any{"offset", 999_999_999}, ""},
		{[]any{"max_bytes", 4}, "one\r"},
		{[]any{"line_offset", 1, "line_limit", 1}, "one\r\n"},
		{[]any{"line_offset", 2, "line_limit", 2}, "two\n" + long + "\n"},
		{[]any{"line_offset", 4}, "last"},
		{[]any{"line_offset", 5}, ""},
		{[]any{"line_offset", 3, "max_bytes", 10}, "yyyyyyyyyy"},
	} {
		a := c.do("file.read", append([]any{"path", path}, x.members...)...)
		if string(a.data) != x.want || a.result["sent"] != float64(len(x.want)) || a.result["size"] != float64(len(content)) {
			t.Errorf("%v: %d bytes, %v", x.members, len(a.data), a.result)
		}
	}
	if a := c.do("file.read", "path", "/proc/self/status"); !bytes.HasPrefix(a.data, []byte("Name:")) {
		t.Error(a.result)
	}
}

func TestReadRefusals(t *testing.T) {
	_, c := configured(t)
	dir := t.TempDir()
	_ = syscall.Mkfifo(dir+"/fifo", 0o666)
	for path, code := range map[string]string{
		dir: "is_a_directory", dir + "/none": "not_found", dir + "/fifo": "not_a_file", "/dev/zero": "not_a_file", "rel": "bad_request",
	} {
		if a := c.do("file.read", "path", path); a.code != code {
			t.Errorf("%s: %v", path, a.result)
		}
	}
	if a := c.do("file.read", "path", dir, "offset", -1); a.code != "bad_request" {
		t.Error(a.result)
	}
}

func (c *client) list(path string, members ...any) (entries []fileEntry, result map[string]any) {
	c.t.Helper()
	c.request("file.list", append([]any{"path", path}, members...)...)
	for {
		typ, b := c.recv()
		switch typ {
		case proto.Data:
			var batch []fileEntry
			if err := json.Unmarshal(b, &batch); err != nil {
				c.t.Fatal(err)
			}
			entries = append(entries, batch...)
		case proto.Result:
			_ = json.Unmarshal(b, &result)
			return entries, result
		case proto.End:
		default:
			c.t.Fatalf("%#x %s", typ, b)
		}
	}
}

func TestListOfAnySize(t *testing.T) {
	_, c := configured(t)
	dir := t.TempDir()
	const n = sortedEntries + 2000
	for i := range n {
		if err := os.WriteFile(fmt.Sprintf("%s/file-with-a-rather-long-name-%06d", dir, i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entries, result := c.list(dir)
	seen := map[string]bool{}
	for _, e := range entries {
		seen[e.Name] = true
	}
	if len(seen) != n || result["count"] != float64(n) || result["truncated"] != false {
		t.Fatal(len(seen), result)
	}
	if entries, result := c.list(dir, "limit", 7); len(entries) != 7 || result["truncated"] != true {
		t.Fatal(len(entries), result)
	}
}

func TestListOfWhatIsNoDirectory(t *testing.T) {
	_, c := configured(t)
	dir := t.TempDir()
	_ = os.WriteFile(dir+"/file", []byte("abc"), 0o640)
	_ = syscall.Mkfifo(dir+"/fifo", 0o666)
	_ = os.Symlink("file", dir+"/link")
	_ = os.Symlink("nothing", dir+"/dangling")
	for name, kind := range map[string]string{"file": "file", "fifo": "fifo", "link": "symlink", "dangling": "symlink"} {
		entries, result := c.list(dir + "/" + name)
		if len(entries) != 1 || entries[0].Name != dir+"/"+name || entries[0].Kind != kind || result["count"] != 1.0 {
			t.Errorf("%s: %+v %v", name, entries, result)
		}
	}
	_ = os.Mkdir(dir+"/real", 0o755)
	_ = os.Symlink("real", dir+"/there")
	if entries, result := c.list(dir + "/there"); len(entries) != 0 || result["count"] != 0.0 {
		t.Errorf("a link to a directory: %+v", entries)
	}
	for path, code := range map[string]string{"/file/x": "not_a_directory", "/file/": "not_a_directory", "/none": "not_found"} {
		if a := c.do("file.list", "path", dir+path); a.code != code {
			t.Errorf("%s: %s %v", path, a.code, a.result)
		}
	}
}

func TestKindsAndNames(t *testing.T) {
	_, c := configured(t)
	dir := t.TempDir()
	_ = syscall.Mkfifo(dir+"/fifo", 0o666)
	_ = os.Mkdir(dir+"/dir", 0o755)
	_ = os.Symlink("to\xff", dir+"/link")
	_ = os.WriteFile(dir+"/odd\xff", []byte("x"), 0o640)
	_ = os.WriteFile(dir+"/file", nil, 0o644)
	entries, _ := c.list(dir)
	got := ""
	for _, e := range entries {
		got += e.Name + "=" + e.Kind + " "
	}
	if got != "dir=dir fifo=fifo file=file link=symlink odd\ufffd=file " {
		t.Errorf("%q", got)
	}
	if link := entries[3]; string(link.TargetB64) != "to\xff" || link.Target != "to\ufffd" {
		t.Errorf("%+v", link)
	}
	// The name goes round trip.
	odd := append([]byte(dir+"/"), entries[4].NameB64...)
	if r := c.do("file.stat", "path_b64", odd).result; r["size"] != 1.0 || r["mode"] != "0640" || r["links"] != 1.0 {
		t.Error(r)
	}
	c.request("file.write", "path_b64", odd)
	c.send(proto.Data, []byte("more"))
	c.send(proto.End, nil)
	if a := c.answer(); a.code != "" {
		t.Error(a.result)
	}
	if a := c.do("file.read", "path_b64", odd); string(a.data) != "more" {
		t.Error(a.result)
	}
	if a := c.do("file.read", "path_b64", odd, "path", "/x"); a.code != "bad_request" {
		t.Error(a.result)
	}
	if r := c.do("file.stat", "path", dir+"/link").result; r["is_link"] != true || r["is_dir"] != false || r["name"] != "link" || r["kind"] != "symlink" {
		t.Error(r)
	}
	if r := c.do("file.stat", "path", "/dev/null").result; r["kind"] != "char_device" || r["device"] != "1:3" {
		t.Error(r)
	}
}

func TestErrorCodes(t *testing.T) {
	for err, code := range map[error]string{
		&os.PathError{Err: syscall.ENOSPC}: "no_space", syscall.EACCES: "permission", errors.New("x"): "io",
	} {
		if e, ok := fromOS(err).(*opError); !ok || e.Code != code {
			t.Errorf("%v: %v", err, fromOS(err))
		}
	}
}
