package archive

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// progressEvery bounds how often digests tells how far it is.
const progressEvery = 250 * time.Millisecond

type progress struct {
	Read int64 `json:"read"`
	Of   int64 `json:"of"`
}

// digests writes lines {"read", "of"} (bytes of all files) now and then, at last the facts of each file by its name. With
// -background first it gives way to whoever else wants CPU or disk, and what it read leaves the page cache again.
func digests(args []string, out io.Writer, now func() time.Time) error {
	background := len(args) > 0 && args[0] == "-background"
	if background {
		args = args[1:]
		giveWay()
	}
	lines := json.NewEncoder(out)
	var p progress
	for _, path := range args {
		p.Of += stored(path)
	}
	told := now()
	all := map[string]Facts{}
	for _, path := range args {
		facts, err := fileFacts(path, func(f *os.File, at, n int64) {
			if background {
				_ = unix.Fadvise(int(f.Fd()), at, n, unix.FADV_DONTNEED)
			}
			p.Read += n
			p.Of = max(p.Of, p.Read)
			if t := now(); t.Sub(told) >= progressEvery {
				told = t
				_ = lines.Encode(p) // nobody listens: the end fails as well
			}
		})
		if err != nil {
			return err
		}
		all[filepath.Base(path)] = facts
	}
	return lines.Encode(all)
}

// stored says how many bytes of the file will be read, about; 0 when it cannot be looked at.
func stored(path string) int64 {
	var s syscall.Stat_t
	if syscall.Lstat(path, &s) != nil {
		return 0
	}
	return min(s.Blocks*512, s.Size)
}

// giveWay puts this thread, which does the reading, behind all others. See ioprio_set(2).
func giveWay() {
	const whoProcess, classIdle = 1, 3 << 13
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, classIdle)
}
