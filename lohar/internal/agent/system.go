package agent

import (
	"encoding/json"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	rndAddEntropy  = 0x40085203
	rndReseedCrng  = 0x5207
	ext4ResizeFS   = 0x40086610
	maxClockError  = 250 * time.Millisecond
	freezeDeadline = 5 * time.Second
)

func sysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// reseed mixes entropy into the kernel's pool and makes its generator start over from it.
func reseed(entropy []byte) error {
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// struct rand_pool_info: bits, bytes, data
	buf := make([]byte, 8+len(entropy))
	*(*int32)(unsafe.Pointer(&buf[0])) = int32(len(entropy) * 8)
	*(*int32)(unsafe.Pointer(&buf[4])) = int32(len(entropy))
	copy(buf[8:], entropy)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), rndAddEntropy, uintptr(unsafe.Pointer(&buf[0]))); e != 0 {
		return e
	}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), rndReseedCrng, 0); e != 0 {
		return e
	}
	return nil
}

// stepClock sets the wall clock when it is off by more than maxClockError.
func stepClock(nowMs int64) {
	want := time.UnixMilli(nowMs)
	off := time.Until(want)
	if off < maxClockError && off > -maxClockError {
		return
	}
	tv := unix.NsecToTimeval(want.UnixNano())
	_ = unix.Settimeofday(&tv)
}

var thaw struct {
	sync.Mutex
	timer *time.Timer
}

// freeze stops (or continues) every user process through the cgroup freezer.
func freeze(on bool) {
	value := []byte("0")
	if on {
		value = []byte("1")
	}
	thaw.Lock()
	if thaw.timer != nil {
		thaw.timer.Stop()
		thaw.timer = nil
	}
	thaw.Unlock()
	_ = os.WriteFile(userCgroup+"/cgroup.freeze", value, 0)
}

func prepareClone(c *conn, payload []byte) (any, error) {
	var r struct {
		TimeoutMs int64 `json:"timeout_ms"`
	}
	_ = json.Unmarshal(payload, &r)
	if r.TimeoutMs <= 0 {
		r.TimeoutMs = 5000
	}
	if !c.s.inGuest {
		return nil, nil
	}
	freeze(true)
	for end := time.Now().Add(freezeDeadline); ; time.Sleep(time.Millisecond) {
		events, err := os.ReadFile(userCgroup + "/cgroup.events")
		if err != nil {
			return nil, err
		}
		if strings.Contains(string(events), "frozen 1") {
			break
		}
		if time.Now().After(end) {
			freeze(false)
			return nil, failf(codeTimeout, "user processes did not freeze")
		}
	}
	// A host that never comes back must not leave the guest frozen. A clone is thawed by configure.
	thaw.Lock()
	thaw.timer = time.AfterFunc(time.Duration(r.TimeoutMs)*time.Millisecond, func() { c.s.thawUnlessCloned() })
	thaw.Unlock()
	return nil, nil
}

// thawUnlessCloned runs by timer; the monotonic clock stands still while the machine is paused or saved.
func (s *Server) thawUnlessCloned() { freeze(false) }

func resumeSource(c *conn, _ []byte) (any, error) {
	if c.s.inGuest {
		freeze(false)
	}
	return nil, nil
}

// growRoot lets the root file system fill its disk.
func growRoot() error {
	dev, err := os.Open("/dev/vda")
	if err != nil {
		return err
	}
	defer dev.Close()
	var size uint64
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, dev.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size))); e != 0 {
		return e
	}
	var fs unix.Statfs_t
	if err := unix.Statfs("/", &fs); err != nil {
		return err
	}
	blocks := size / uint64(fs.Bsize)
	// f_blocks leaves out the file system's own overhead (tables, journal), which never is a tenth of the disk.
	if fs.Blocks+blocks/10 >= blocks {
		return nil
	}
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	defer root.Close()
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, root.Fd(), ext4ResizeFS, uintptr(unsafe.Pointer(&blocks))); e != 0 {
		return e
	}
	return nil
}

// powerOff ends the machine: TERM, a moment, KILL, then the disks.
func powerOff(c *conn, payload []byte) (any, error) {
	var r struct {
		TimeoutMs int64 `json:"timeout_ms"`
	}
	_ = json.Unmarshal(payload, &r)
	if !c.s.inGuest {
		return nil, nil
	}
	go func() {
		_ = syscall.Kill(-1, syscall.SIGTERM)
		time.Sleep(time.Duration(min64(max64(r.TimeoutMs, 100), 10_000)) * time.Millisecond)
		_ = syscall.Kill(-1, syscall.SIGKILL)
		PowerOff()
	}()
	return nil, nil
}

func min64(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}
