// Command hostile-vmm stands in the place of a VMM that was taken over, without the VMM's own filter of system calls: it tries what
// such a process would try, and prints a line for each: its name, then "yes" or the error.
package main

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"
)

func try(name string, err error) {
	if err != nil {
		fmt.Println(name, "no:", err)
		return
	}
	fmt.Println(name, "yes")
}

func open(path string, flags int) error {
	f, err := os.OpenFile(path, flags, 0)
	if err == nil {
		f.Close()
	}
	return err
}

func call(number uintptr, a, b, c uintptr) error {
	if _, _, e := syscall.RawSyscall(number, a, b, c); e != 0 {
		return e
	}
	return nil
}

func path(text string) uintptr {
	p, _ := syscall.BytePtrFromString(text)
	return uintptr(unsafe.Pointer(p))
}

func socket(family, kind, protocol int) error {
	fd, err := syscall.Socket(family, kind, protocol)
	if err == nil {
		syscall.Close(fd)
	}
	return err
}

func main() {
	outside := os.Args[len(os.Args)-1] // a file of the host that everybody may read, "host:PORT" of a server there before it
	server := os.Args[len(os.Args)-2]

	// What it must be able to do: its own files.
	try("own memory", open("/mem", os.O_RDWR))
	try("read kernel", open("/kernel", os.O_RDONLY))

	// Files.
	try("write kernel", open("/kernel", os.O_RDWR))
	try("chmod kernel", os.Chmod("/kernel", 0o777))
	try("remove kernel", os.Remove("/kernel"))
	try("large memory", os.Truncate("/mem", 1<<40))
	try("host file", open(outside, os.O_RDONLY))
	for _, up := range []string{"/..", "/../..", "/proc/1/root", "/old_root"} {
		try("host file by "+up, open(up+outside, os.O_RDONLY))
	}
	try("proc", open("/proc/1/status", os.O_RDONLY))
	fill := func() error {
		f, err := os.Create("/fill")
		if err != nil {
			return err
		}
		defer os.Remove("/fill")
		defer f.Close()
		_, err = f.Write(make([]byte, 64<<20))
		return err
	}
	try("64 MiB of files", fill())

	// Rights.
	try("setuid", call(syscall.SYS_SETUID, 0, 0, 0))
	try("chroot", syscall.Chroot("/dev"))
	try("mount", syscall.Mount("proc", "/dev", "proc", 0, ""))
	try("device", syscall.Mknod("/disk", syscall.S_IFBLK|0o600, 7<<8))
	try("cgroup", syscall.Mount("none", "/run", "cgroup2", 0, ""))
	try("host name", syscall.Sethostname([]byte("x")))
	try("module", call(175, 0, 0, path("")))
	try("port I/O", call(syscall.SYS_IOPL, 3, 0, 0))
	try("clock", syscall.Settimeofday(&syscall.Timeval{Sec: 1}))

	// Others.
	try("signal to all others", syscall.Kill(-1, 0))
	try("trace", call(syscall.SYS_PTRACE, 16, 2, 0))

	// Network.
	try("raw socket", socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0))
	_, err := net.DialTimeout("tcp", server, 500*time.Millisecond)
	try("server on the host", err)
	try("abstract socket", func() error { _, err := net.Dial("unix", "@bhatti-hostile-vmm"); return err }())
	fmt.Println("done")
}
