package archive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sparseFile: size bytes with data at the offsets.
func sparseFile(t *testing.T, path string, size int64, data map[int64]string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for at, text := range data {
		if _, err := f.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
	}
}

func compress(t *testing.T, b []byte) *os.File {
	t.Helper()
	zstd := exec.Command("zstd", "-q", "-c")
	zstd.Stdin = bytes.NewReader(b)
	packed, err := zstd.Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(path, packed, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func ignore(*os.File, int64, int64) {}

type entry struct {
	header tar.Header
	body   string
}

func archiveOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.header
		h.Format = tar.FormatGNU
		if h.Size == 0 {
			h.Size = int64(len(e.body))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Flush()
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

func limits(t *testing.T, l map[string]Limit) io.Reader {
	b, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b)
}

var manifest = entry{tar.Header{Name: "manifest.json"}, `{ "a" : 1 }`}

func TestSparseRoundTrip(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	// Data at odd places, in the last short block, and zeros that are stored.
	const size = 3<<40 + 100
	sparseFile(t, from+"/disk", size, map[int64]string{
		5: "a", 4095: "bc", 1<<40 + 777: strings.Repeat("x", 10_000), 2 << 40: strings.Repeat("\x00", 8192), size - 3: "end",
	})
	if err := os.WriteFile(from+"/manifest.json", []byte(`{}`), 0o600); err != nil {
		t.Fatal(err)
	}
	packed, err := exec.Command("tar", "--sparse", "--format=gnu", "-c", "-C", from, "manifest.json", "disk").Output()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	want, err := fileFacts(from+"/disk", ignore)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	l := map[string]Limit{"disk": {Size: want.Size, Data: want.Data + 65536}}
	if err := Unpack(compress(t, packed), to, limits(t, l), &out); err != nil {
		t.Fatal(err)
	}
	got, err := fileFacts(to+"/disk", ignore)
	if err != nil {
		t.Fatal(err)
	}
	if got.Size != want.Size || got.Sha256 != want.Sha256 {
		t.Fatalf("%+v is not %+v", got, want)
	}
	if !strings.Contains(out.String(), want.Sha256) {
		t.Fatalf("unpack told %s", out.String())
	}
	if got.Data >= want.Data {
		t.Fatalf("stored zeros are no hole: %d bytes", got.Data)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Fatalf("three terabytes of hole took %v", took)
	}
}

func TestHostileArchives(t *testing.T) {
	file := func(name, body string) entry { return entry{tar.Header{Name: name}, body} }
	link := func(name, target string, kind byte) entry {
		return entry{tar.Header{Name: name, Linkname: target, Typeflag: kind}, ""}
	}
	good := map[string]Limit{"disk": {Size: 5, Data: 5}}
	cases := map[string][]byte{
		"no manifest":           archiveOf(t, file("disk", "12345"), manifest),
		"manifest is a link":    archiveOf(t, link("manifest.json", "/etc/passwd", tar.TypeSymlink), file("disk", "12345")),
		"manifest is no JSON":   archiveOf(t, file("manifest.json", "hello"), file("disk", "12345")),
		"manifest too large":    archiveOf(t, file("manifest.json", `"`+strings.Repeat("a", manifestMax)+`"`), file("disk", "12345")),
		"symlink":               archiveOf(t, manifest, link("disk", "/etc/passwd", tar.TypeSymlink)),
		"hard link":             archiveOf(t, manifest, link("disk", "/etc/passwd", tar.TypeLink)),
		"device":                archiveOf(t, manifest, link("disk", "", tar.TypeChar)),
		"fifo":                  archiveOf(t, manifest, link("disk", "", tar.TypeFifo)),
		"directory":             archiveOf(t, manifest, link("disk", "", tar.TypeDir)),
		"path upwards":          archiveOf(t, manifest, file("../disk", "12345")),
		"absolute path":         archiveOf(t, manifest, file("/tmp/disk", "12345")),
		"unknown member":        archiveOf(t, manifest, file("other", "12345")),
		"second manifest":       archiveOf(t, manifest, manifest, file("disk", "12345")),
		"disk twice":            archiveOf(t, manifest, file("disk", "12345"), file("disk", "54321")),
		"no end":                archiveOf(t, manifest, file("disk", "12345"))[:2048],
		"larger than told":      archiveOf(t, manifest, file("disk", "123456")),
		"smaller than told":     archiveOf(t, manifest, file("disk", "1234")),
		"member is missing":     archiveOf(t, manifest),
		"cut in the manifest":   archiveOf(t, manifest)[:520],
		"cut in a member":       archiveOf(t, manifest, file("disk", "12345"))[:1024+512+3],
		"header damaged":        append(archiveOf(t, manifest)[:1024], bytes.Repeat([]byte("x"), 1024)...),
		"nothing":               {},
		"negative size":         patched(t, archiveOf(t, manifest, file("disk", "12345")), 124, []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")),
		"digits that are none":  patched(t, archiveOf(t, manifest, file("disk", "12345")), 124, []byte("zzzzzzzzzzz\x00")),
		"sparse map overlaps":   sparse(t, [][2]int64{{0, 3}, {2, 2}}, 5, 5),
		"sparse map beyond end": sparse(t, [][2]int64{{4, 5}}, 5, 5),
		"sparse map too small":  sparse(t, [][2]int64{{0, 1}}, 5, 5),
	}
	for name, b := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var out bytes.Buffer
			err := Unpack(compress(t, b), dir, limits(t, good), &out)
			if err == nil {
				t.Fatal("was accepted")
			}
			left, _ := os.ReadDir(dir)
			for _, e := range left {
				if info, _ := e.Info(); e.Name() != "disk" || !info.Mode().IsRegular() || info.Size() > 5 {
					t.Fatalf("%s was left", e.Name())
				}
			}
		})
	}
	// The twin: the same archive without a trick goes through.
	dir := t.TempDir()
	if err := Unpack(compress(t, archiveOf(t, manifest, file("disk", "12345"))), dir, limits(t, good), io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := Unpack(compress(t, sparse(t, [][2]int64{{0, 1}, {1, 4}}, 5, 5)), t.TempDir(), limits(t, good), io.Discard); err != nil {
		t.Fatal(err)
	}
}

// A member that was there already is never written through.
func TestExistingFileIsNotWritten(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(t.TempDir(), "victim")
	if os.WriteFile(victim, []byte("mine"), 0o600) != nil || os.Symlink(victim, dir+"/disk") != nil {
		t.Fatal("cannot prepare")
	}
	b := archiveOf(t, manifest, entry{tar.Header{Name: "disk"}, "12345"})
	if Unpack(compress(t, b), dir, limits(t, map[string]Limit{"disk": {Size: 5, Data: 5}}), io.Discard) == nil {
		t.Fatal("was accepted")
	}
	if b, _ := os.ReadFile(victim); string(b) != "mine" {
		t.Fatalf("the link's target holds %q", b)
	}
}

// A gigabyte of stored zeros in some kilobytes: refused by the limit before anything is read; within it, it costs no disk.
func TestBombIsBounded(t *testing.T) {
	const size = 1 << 30
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{{Name: "manifest.json", Size: 2}, {Name: "disk", Size: size}} {
		h.Format = tar.FormatGNU
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size == 2 {
			_, _ = io.WriteString(w, "{}")
		}
	}
	head := b.Bytes()
	pack := exec.Command("zstd", "-q", "-c", "-1")
	pack.Stdin = io.MultiReader(bytes.NewReader(head), io.LimitReader(zeroReader{}, size+1024))
	packed, err := pack.Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bomb")
	if err := os.WriteFile(path, packed, 0o644); err != nil {
		t.Fatal(err)
	}
	open := func() *os.File {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	dir := t.TempDir()
	began := time.Now()
	if Unpack(open(), dir, limits(t, map[string]Limit{"disk": {Size: size, Data: 1 << 20}}), io.Discard) == nil {
		t.Fatal("more was stored than the manifest tells, and was accepted")
	}
	if took := time.Since(began); took > time.Second {
		t.Fatalf("the refusal took %v", took)
	}
	if err := Unpack(open(), dir, limits(t, map[string]Limit{"disk": {Size: size, Data: size}}), io.Discard); err != nil {
		t.Fatal(err)
	}
	if facts, err := fileFacts(dir+"/disk", ignore); err != nil || facts.Data != 0 || facts.Size != size {
		t.Fatalf("%+v %v", facts, err)
	}
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func patched(t *testing.T, b []byte, at int, with []byte) []byte {
	t.Helper()
	h := b[1024 : 1024+record] // the second member's header
	copy(h[at:], with)
	setChecksum(h)
	return b
}

func setChecksum(h []byte) {
	var a [record]byte
	copy(a[:], h)
	copy(h[148:156], []byte(octal(checksum(&a), 6)+"\x00 "))
}

func octal(n int64, width int) string {
	s := ""
	for ; n > 0; n >>= 3 {
		s = string(rune('0'+n&7)) + s
	}
	return strings.Repeat("0", width-len(s)) + s
}

// sparse: an archive whose disk is a sparse member with that map and 5 bytes of data.
func sparse(t *testing.T, entries [][2]int64, size, stored int64) []byte {
	t.Helper()
	b := archiveOf(t, manifest, entry{tar.Header{Name: "disk"}, strings.Repeat("d", int(stored))})
	h := b[1024 : 1024+record]
	h[156] = 'S'
	for i, e := range entries {
		copy(h[386+24*i:], octal(e[0], 11)+"\x00")
		copy(h[398+24*i:], octal(e[1], 11)+"\x00")
	}
	copy(h[483:], octal(size, 11)+"\x00")
	setChecksum(h)
	return b
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		if _, err := readManifest(r); err != nil {
			return
		}
		for {
			m, err := next(r)
			if err != nil {
				return
			}
			if m.stored < 0 || m.size < 0 || len(m.segments) > maxSegments {
				t.Fatalf("%+v", m)
			}
			if _, err := io.CopyN(io.Discard, r, m.stored+m.padding()); err != nil {
				return
			}
		}
	})
}

func TestDigestTellsHowFarItIs(t *testing.T) {
	dir := t.TempDir()
	sparseFile(t, dir+"/disk", 8<<30, map[int64]string{1 << 20: strings.Repeat("x", 5<<20), 7 << 30: "end"})
	sparseFile(t, dir+"/state", 100, map[int64]string{0: strings.Repeat("y", 100)})
	for _, args := range [][]string{{dir + "/disk", dir + "/state"}, {"-background", dir + "/disk", dir + "/state"}} {
		var out bytes.Buffer
		now := time.Unix(0, 0)
		clock := func() time.Time { now = now.Add(time.Second); return now }
		if err := digests(args, &out, clock); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		var last int64
		for _, line := range lines[:len(lines)-1] {
			var p struct{ Read, Of int64 }
			if err := json.Unmarshal([]byte(line), &p); err != nil {
				t.Fatal(err)
			}
			if p.Read <= last || p.Read > p.Of || p.Of < 5<<20 || p.Of > 6<<20 {
				t.Fatalf("%+v after %d", p, last)
			}
			last = p.Read
		}
		if last < 5<<20 {
			t.Fatalf("ended at %d", last)
		}
		var all map[string]Facts
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &all); err != nil {
			t.Fatal(err)
		}
		want, err := fileFacts(dir+"/disk", ignore)
		if err != nil || all["disk"] != want || all["state"].Size != 100 {
			t.Fatalf("%+v is not %+v (%v)", all, want, err)
		}
	}
}
