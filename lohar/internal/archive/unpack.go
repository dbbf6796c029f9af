package archive

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	manifestName = "manifest.json"
	manifestMax  = 64 << 10
)

// Limit of one member: its exact size and the most that may be stored of it, bytes.
type Limit struct {
	Size int64 `json:"size"`
	Data int64 `json:"data"`
}

// Unpack reads a compressed archive. The manifest must be its first member: it goes to out as one line; then one line with
// the Limits by name is awaited (the daemon has checked quotas and reserved disk), and only these members are taken, once
// each, as plain new files in dir. At last their facts go to out. What is in dir after an error is the caller's to remove.
func Unpack(in *os.File, dir string, limits io.Reader, out io.Writer) error {
	plain, end, err := decompress(in)
	if err != nil {
		return err
	}
	defer end()
	r := bufio.NewReaderSize(plain, 1<<20)
	manifest, err := readManifest(r)
	if err != nil {
		return err
	}
	if _, err := out.Write(append(manifest, '\n')); err != nil {
		return err
	}
	wanted := map[string]Limit{}
	if err := json.NewDecoder(limits).Decode(&wanted); err != nil {
		return errors.New("no limits were given")
	}
	facts := map[string]Facts{}
	for len(wanted) > 0 {
		m, err := next(r)
		if errors.Is(err, io.EOF) {
			return errTruncated
		}
		if err != nil {
			return err
		}
		limit, ok := wanted[m.name]
		if !ok {
			return fmt.Errorf("%q is unexpected", m.name)
		}
		delete(wanted, m.name)
		if m.size != limit.Size || m.stored > limit.Data {
			return fmt.Errorf("%q has not the size that the manifest tells", m.name)
		}
		if facts[m.name], err = write(r, m, filepath.Join(dir, m.name)); err != nil {
			return err
		}
	}
	// What was not asked for may follow; what was taken already may not.
	if m, err := next(r); err == nil {
		if _, twice := facts[m.name]; twice || m.name == manifestName {
			return fmt.Errorf("%q is there twice", m.name)
		}
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	if err := json.NewEncoder(out).Encode(facts); err != nil {
		return err
	}
	end()
	_, _ = io.Copy(io.Discard, in) // a client that still sends wants to hear the end before it looks at the answer
	return nil
}

func readManifest(r io.Reader) ([]byte, error) {
	m, err := next(r)
	if err != nil || m.name != manifestName || m.size != m.stored || m.size > manifestMax {
		return nil, errors.New("this is not a snapshot export: its manifest is missing")
	}
	b := make([]byte, m.size+m.padding())
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, errTruncated
	}
	var line bytes.Buffer
	if json.Compact(&line, b[:m.size]) != nil {
		return nil, errors.New("this is not a snapshot export: its manifest cannot be read")
	}
	return line.Bytes(), nil
}

// write puts a member into a new file: blocks of zeros become holes.
func write(r io.Reader, m *member, path string) (Facts, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return Facts{}, err
	}
	defer f.Close()
	if err := f.Truncate(m.size); err != nil {
		return Facts{}, err
	}
	facts := Facts{Size: m.size}
	digest := NewDigest()
	// Segments may begin and end within a block, which is hashed as a whole when the next one lies beyond it.
	current := make([]byte, block)
	at := int64(-1)
	flush := func() error {
		if at < 0 {
			return nil
		}
		b := current[:min(block, m.size-at*block)]
		if digest.Block(at, b) {
			facts.Data += int64(len(b))
			if _, err := f.WriteAt(b, at*block); err != nil {
				return err
			}
		}
		clear(current)
		return nil
	}
	for _, s := range m.segments {
		for done := int64(0); done < s.n; {
			number, within := (s.at+done)/block, (s.at+done)%block
			if number != at {
				if err := flush(); err != nil {
					return Facts{}, err
				}
				at = number
			}
			n := min(block-within, s.n-done)
			if _, err := io.ReadFull(r, current[within:within+n]); err != nil {
				return Facts{}, errTruncated
			}
			done += n
		}
	}
	if err := flush(); err != nil {
		return Facts{}, err
	}
	if _, err := io.CopyN(io.Discard, r, m.padding()); err != nil {
		return Facts{}, errTruncated
	}
	facts.Sha256 = digest.Sum(m.size)
	return facts, f.Close()
}

// decompress runs zstd on the stranger's bytes: C code, therefore as nobody, with bounded memory, and never longer than we live.
func decompress(in *os.File) (io.Reader, func(), error) {
	runtime.LockOSThread() // the child dies with the thread that made it
	zstd := exec.Command("zstd", "-dcq", "--no-progress", "-M64MB")
	zstd.Stdin = in
	zstd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		zstd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	zstd.Dir = "/"
	zstd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	out, err := zstd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := zstd.Start(); err != nil {
		return nil, nil, err
	}
	return out, sync.OnceFunc(func() { _ = zstd.Process.Kill(); _ = zstd.Wait() }), nil
}
