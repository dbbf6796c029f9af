package jail

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func TestRingIsBoundedAndKeepsTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r, err := openRing(path, false)
	if err != nil {
		t.Fatal(err)
	}
	line := bytes.Repeat([]byte("x"), 999)
	for i := range 2000 {
		_, _ = r.Write(append(line, byte('0'+i%10)))
	}
	if a, b := size(path), size(path+".1"); a > ringSegment || b > ringSegment || a+b < ringSegment {
		t.Fatalf("%d and %d bytes", a, b)
	}
	all, _ := os.ReadFile(path)
	if all[len(all)-1] != '9' {
		t.Fatal("the newest output is missing")
	}
	_, _ = r.Write(make([]byte, 5*ringSegment))
	if a, b := size(path), size(path+".1"); a > ringSegment || b > ringSegment {
		t.Fatalf("%d and %d bytes after one large write", a, b)
	}
}

func TestRingGoesOnOrBeginsAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, fresh := range []bool{false, false, true} {
		r, err := openRing(path, fresh)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = r.Write([]byte("once "))
		r.file.Close()
	}
	if all, _ := os.ReadFile(path); string(all) != "once " {
		t.Fatalf("%q", all)
	}
}

func TestRingFollowsNoSymlink(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "victim"), filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	if _, err := openRing(filepath.Join(dir, "log"), false); err == nil {
		t.Fatal("a symlink was followed")
	}
}

func TestPumpHoldsBackAFlood(t *testing.T) {
	r, err := openRing(filepath.Join(t.TempDir(), "log"), false)
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { r.pump(read); close(done) }()
	began, taken := time.Now(), 0
	_ = write.SetWriteDeadline(began.Add(time.Second))
	for {
		n, err := write.Write(make([]byte, 64<<10))
		if taken += n; err != nil {
			break
		}
	}
	write.Close()
	<-done
	if taken > 2*ringRate+256<<10 {
		t.Fatalf("%d bytes in about a second", taken)
	}
}
