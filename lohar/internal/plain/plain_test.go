package plain

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWhateverLiesThere(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(dir+"/fifo", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/file", bytes.Repeat([]byte("x"), 100_000), 0o644); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"zero": "/dev/zero", "null": "/dev/null", "link": "file", "loop": "loop", "pipe": "fifo"} {
		if err := os.Symlink(target, dir+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	huge, err := os.Create(dir + "/huge")
	if err != nil {
		t.Fatal(err)
	}
	defer huge.Close()
	if err := huge.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		limit int
		bytes int
		err   error
	}{
		{"fifo", 100, 0, ErrKind},
		{"pipe", 100, 0, ErrKind},
		{"zero", 100, 0, ErrKind},
		{"null", 100, 0, ErrKind},
		{".", 100, 0, ErrKind},
		{"loop", 100, 0, unix.ELOOP},
		{"none", 100, 0, os.ErrNotExist},
		{"file", 100_000, 100_000, nil},
		{"link", 200_000, 100_000, nil},
		{"file", 99_999, 99_999, ErrLarge},
		{"huge", 1000, 1000, ErrLarge},
	} {
		done := make(chan bool)
		go func() {
			b, err := Read(dir+"/"+c.name, c.limit)
			if len(b) != c.bytes || !errors.Is(err, c.err) {
				t.Errorf("%s up to %d: %d bytes, %v", c.name, c.limit, len(b), err)
			}
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Fatalf("%s blocks", c.name)
		}
	}
	if b, err := Read("/proc/self/stat", 4096); err != nil || len(b) == 0 {
		t.Error("a file of /proc:", err)
	}
}
