package initctl

import (
	"encoding/binary"
	"os"
	"syscall"
	"testing"
	"time"
)

func request(cmd, level uint32) []byte {
	b := make([]byte, requestSize)
	binary.NativeEndian.PutUint32(b, magic)
	binary.NativeEndian.PutUint32(b[4:], cmd)
	binary.NativeEndian.PutUint32(b[8:], level)
	return b
}

func TestFIFO(t *testing.T) {
	path := t.TempDir() + "/initctl"
	got := make(chan bool, 4)
	if err := serve(path, func(reboot bool) { got <- reboot }); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error("not root's alone:", info.Mode(), err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{make([]byte, requestSize), request(runLevel, '3'), request(2, '6'), request(runLevel, '6'), request(runLevel, '0')} {
		_, _ = f.Write(b)
	}
	f.Close()
	for _, want := range []bool{true, false} {
		select {
		case reboot := <-got:
			if reboot != want {
				t.Error("the other way round")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("not heard")
		}
	}
}

func TestSignals(t *testing.T) {
	for s, want := range map[syscall.Signal]bool{syscall.SIGINT: true, syscall.SIGTERM: true, 39: true, syscall.SIGUSR2: false, 38: false} {
		if reboot, known := meaning[s]; !known || reboot != want {
			t.Error(s, reboot, known)
		}
	}
	if _, known := meaning[syscall.SIGHUP]; known {
		t.Error("HUP ends nothing")
	}
}
