package proc

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setThreadFS gives only the calling thread the file system identity of u. The raw calls are on purpose: the wrappers
// of package syscall change every thread.
func setThreadFS(u *User) error {
	groups := append([]uint32{u.GID}, u.Groups...)
	if _, _, e := syscall.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0); e != 0 {
		return e
	}
	_, _, _ = syscall.RawSyscall(unix.SYS_SETFSGID, uintptr(u.GID), 0, 0)
	_, _, _ = syscall.RawSyscall(unix.SYS_SETFSUID, uintptr(u.UID), 0, 0)
	// setfsuid reports the previous value, never an error: asking with an invalid one tells what is in force.
	if now, _, _ := syscall.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0); uint32(now) != u.UID {
		return syscall.EPERM
	}
	return nil
}
