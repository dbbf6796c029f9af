// Package jail starts a VMM as an unprivileged process in its own network and mount namespace.
package jail

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

type options struct {
	root, netns, cgroup string
	uid, gid            int
	nofile              uint64
	binds, devices      list
}

// Main parses the arguments, builds the jail and execs the VMM; it returns (125) only on failure.
//
//	lohar jail --root DIR --netns NAME --uid N --gid N [--bind SRC:DST[:ro]]… [--dev NAME]… [--cgroup DIR] -- VMM ARG…
func Main(args []string) int {
	var o options
	fs := flag.NewFlagSet("jail", flag.ContinueOnError)
	fs.StringVar(&o.root, "root", "", "directory that becomes / of the VMM")
	fs.StringVar(&o.netns, "netns", "", "network namespace name")
	fs.StringVar(&o.cgroup, "cgroup", "", "cgroup v2 directory to join")
	fs.IntVar(&o.uid, "uid", 0, "user of the VMM")
	fs.IntVar(&o.gid, "gid", 0, "group of the VMM")
	fs.Uint64Var(&o.nofile, "nofile", 1024, "open files")
	fs.Var(&o.binds, "bind", "SRC:DST[:ro], DST relative to the root")
	fs.Var(&o.devices, "dev", "device below /dev, e.g. net/tun")
	if err := fs.Parse(args); err != nil {
		return 125
	}
	if o.uid <= 0 || o.gid <= 0 || o.root == "" || fs.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "lohar jail: --root, --uid, --gid and a command are required")
		return 125
	}
	runtime.LockOSThread()
	// The daemon keeps its own files to itself; the VMM must find its way through the root that is built for it.
	unix.Umask(0o022)
	if err := enter(&o, fs.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "lohar jail:", err)
	}
	return 125
}

func enter(o *options, command []string) error {
	steps := []struct {
		name string
		do   func() error
	}{
		{"setsid", func() error { _, err := unix.Setsid(); return ignore(err, unix.EPERM) }},
		{"join cgroup", func() error { return joinCgroup(o.cgroup) }},
		{"enter network namespace", func() error { return setns(o.netns) }},
		{"unshare", func() error { return unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS) }},
		{"make mounts private", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"build root", func() error { return buildRoot(o) }},
		{"pivot", func() error { return pivot(o.root) }},
		{"limits", func() error { return limits(o.nofile) }},
		{"close descriptors", func() error { return unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) }},
		{"drop privileges", func() error { return drop(o.uid, o.gid) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	err := unix.Exec(command[0], command, []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"})
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

// buildRoot makes o.root a mount with the host's libraries read-only, a few devices and the VM's own files.
func buildRoot(o *options) error {
	if err := unix.Mount(o.root, o.root, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Mount("", o.root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	for _, dir := range []string{"/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache"} {
		if err := hostPath(o.root, dir); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	if err := devices(o); err != nil {
		return fmt.Errorf("/dev: %w", err)
	}
	for _, spec := range o.binds {
		part := strings.Split(spec, ":")
		if len(part) < 2 {
			return fmt.Errorf("bad bind %q", spec)
		}
		if err := bind(part[0], filepath.Join(o.root, part[1]), len(part) > 2 && part[2] == "ro"); err != nil {
			return fmt.Errorf("%s: %w", spec, err)
		}
	}
	return nil
}

// hostPath shows a path of the host read-only; symlinks (merged /usr) are copied as such.
func hostPath(root, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return ignore(os.Symlink(target, filepath.Join(root, path)), os.ErrExist)
	}
	return bind(path, filepath.Join(root, path), true)
}

func devices(o *options) error {
	dev := filepath.Join(o.root, "dev")
	if err := os.MkdirAll(dev, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "size=64k,mode=755"); err != nil {
		return err
	}
	for _, name := range append([]string{"null", "zero", "urandom", "random"}, o.devices...) {
		if err := device(filepath.Join(dev, name), "/dev/"+name, o.uid, o.gid); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// device makes a node like the host's, for the VMM's user alone: the host's own may be root's.
func device(target, like string, uid, gid int) error {
	var st unix.Stat_t
	if err := unix.Stat(like, &st); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if err := unix.Mknod(target, unix.S_IFCHR|0o600, int(st.Rdev)); err != nil {
		return err
	}
	return os.Lchown(target, uid, gid)
}

func bind(source, target string, readOnly bool) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
		var f *os.File
		if f, err = os.OpenFile(target, os.O_CREATE|unix.O_NOFOLLOW, 0o600); err == nil {
			f.Close()
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND | unix.MS_NOSUID)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	if info.Mode()&os.ModeDevice == 0 {
		flags |= unix.MS_NODEV
	}
	return unix.Mount("", target, "", flags, "")
}

func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Chdir("/")
}

func limits(nofile uint64) error {
	for resource, value := range map[int]uint64{unix.RLIMIT_NOFILE: nofile, unix.RLIMIT_CORE: 0} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: value, Max: value}); err != nil {
			return err
		}
	}
	return nil
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
