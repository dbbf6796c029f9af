package jail

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// jailerNeeds are the capabilities with which the jailer builds the jail; all of them are gone when it becomes the VMM.
var jailerNeeds = []uintptr{
	unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_MKNOD, unix.CAP_CHOWN, unix.CAP_FOWNER, unix.CAP_DAC_OVERRIDE,
	unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_FSETID,
}

// jailRoom is what the VMM may write into its root beside its own program, bytes: a socket, and nothing else it needs.
const jailRoom = 4 << 20

// enterJailer prepares what the jailer does not know (a root that is gone with the VMM, the files of the VM in it, a cgroup,
// limits) and becomes the jailer, which becomes the VMM. Nothing of the jail is seen outside this mount namespace.
func enterJailer(o *options, command []string) error {
	runtime.LockOSThread()
	steps := []struct {
		name string
		do   func() error
	}{
		{"join cgroup", func() error { return joinCgroup(o.cgroup) }},
		{"unshare", func() error { return unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS) }},
		{"make mounts private", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"build root", func() error { unix.Umask(0o022); return jailerRoot(o, command[0]) }},
		{"limits", func() error {
			for resource, value := range map[int]uint64{unix.RLIMIT_NPROC: o.nproc, unix.RLIMIT_CORE: 0} {
				if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: value, Max: value}); err != nil {
					return err
				}
			}
			return nil
		}},
		{"close descriptors", func() error { return closeOthers(o) }},
		{"capabilities", keepForJailer},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	err := unix.Exec(o.jailer, jailerArguments(o, command), []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"})
	return fmt.Errorf("exec %s: %w", o.jailer, err)
}

func jailerArguments(o *options, command []string) []string {
	return append([]string{
		o.jailer, "--id", o.id, "--exec-file", command[0], "--uid", strconv.Itoa(o.uid), "--gid", strconv.Itoa(o.gid),
		"--chroot-base-dir", o.root, "--netns", "/run/netns/" + filepath.Base(o.netns),
		"--resource-limit", "fsize=" + strconv.FormatUint(o.fsize, 10),
		"--resource-limit", "no-file=" + strconv.FormatUint(o.nofile, 10), "--",
	}, command[1:]...)
}

// jailerRoot mounts a small file system where the jailer will make its root, with the VM's files in it.
func jailerRoot(o *options, vmm string) error {
	info, err := os.Stat(vmm)
	if err != nil {
		return err
	}
	room := fmt.Sprintf("size=%d,nr_inodes=64,mode=755", info.Size()+jailRoom)
	if err := unix.Mount("tmpfs", o.root, "tmpfs", unix.MS_NOSUID, room); err != nil {
		return err
	}
	root := filepath.Join(o.root, filepath.Base(vmm), o.id, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := bindFiles(o, root); err != nil {
		return err
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := bind(o.fifo, filepath.Join(root, "log"), unix.S_IFIFO, flags); err != nil {
		return fmt.Errorf("%s: %w", o.fifo, err)
	}
	for _, spec := range o.copies {
		part := strings.Split(spec, ":")
		if len(part) != 3 {
			return fmt.Errorf("bad copy %q", spec)
		}
		skip, err := strconv.ParseInt(part[2], 10, 64)
		if err != nil {
			return fmt.Errorf("bad copy %q", spec)
		}
		if err := copyIn(part[0], filepath.Join(root, part[1]), skip); err != nil {
			return fmt.Errorf("%s: %w", spec, err)
		}
	}
	return nil
}

// copyIn writes what follows the first `skip` bytes of source to a new file that everybody may read and only root write.
func copyIn(source, target string, skip int64) error {
	from, err := os.OpenFile(source, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	if _, err := from.Seek(skip, io.SeekStart); err != nil {
		return err
	}
	to, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// keepForJailer leaves the next program, which is root's, a few capabilities, and what it becomes none: they are inheritable
// ones, which a program gets as root alone, and the bounding set is empty.
func keepForJailer() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	for _, c := range jailerNeeds {
		data[c/32].Inheritable |= 1 << (c % 32)
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return err
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}
