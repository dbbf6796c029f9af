package jail

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

func enter(o *options, command []string) error {
	runtime.LockOSThread()
	filter, err := seccompMode(o.seccomp)
	if err != nil {
		return err
	}
	steps := []struct {
		name string
		do   func() error
	}{
		{"join cgroup", func() error { return joinCgroup(o.cgroup) }},
		{"enter network namespace", func() error { return setns(o.netns) }},
		{"unshare", func() error { return unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS) }},
		{"make mounts private", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		// Daemon and keeper keep their files to themselves; the VMM must find its way through the root that is built for it.
		{"build root", func() error { unix.Umask(0o022); return buildRoot(o) }},
		{"pivot", func() error { return pivot(o.root) }},
		{"limits", func() error { return limits(o) }},
		{"close descriptors", func() error { return closeOthers(o) }},
		{"drop privileges", func() error { return drop(o.uid, o.gid) }},
		// A VMM without its keeper would write into a broken pipe and have nobody to tell of its end.
		{"end with the keeper", func() error { return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0) }},
		{"seccomp", filter},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	err = unix.Exec(command[0], command, []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"})
	return fmt.Errorf("exec %s: %w", command[0], err)
}

func ignore(err error, accepted ...error) error {
	for _, a := range accepted {
		if errors.Is(err, a) {
			return nil
		}
	}
	return err
}

func joinCgroup(dir string) error {
	if dir == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
}

func setns(name string) error {
	if name == "" {
		return nil
	}
	fd, err := unix.Open("/run/netns/"+filepath.Base(name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Setns(fd, unix.CLONE_NEWNET)
}

// limits hold with and without cgroup v2. The size of files is bounded because the host looks at files that the VMM may
// resize: its memory and its disks. Beyond it a call fails; the signal that would end the VMM is ignored.
func limits(o *options) error {
	signal.Ignore(unix.SIGXFSZ)
	values := map[int]uint64{unix.RLIMIT_NOFILE: o.nofile, unix.RLIMIT_NPROC: o.nproc, unix.RLIMIT_CORE: 0}
	if o.fsize > 0 {
		values[unix.RLIMIT_FSIZE] = o.fsize
	}
	for resource, value := range values {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: value, Max: value}); err != nil {
			return err
		}
	}
	return nil
}

// closeOthers leaves the VMM its standard descriptors and those of `inherit`.
func closeOthers(o *options) error {
	first := uint(3)
	for _, given := range []string{o.qmp, o.incoming} {
		if given != "" {
			first++
		}
	}
	return unix.CloseRange(first, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
}

// drop leaves root for good: no groups, no capabilities, no way to gain any.
func drop(uid, gid int) error {
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	if err := unix.Setgroups(nil); err != nil {
		return err
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); e != 0 {
		return e
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
		return e
	}
	unix.Umask(0o077)
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}
