package jail

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxIncoming bounds what the VMM gets from --incoming, bytes: a device state is about 100 KB.
const maxIncoming = 64 << 20

// keep starts the VMM and ends with it. Everything it opens by name lies in folders that only root can write.
func keep(o *options, args []string) error {
	unix.Umask(0o077)
	// The daemon's terminal and its end are not the VMM's.
	_, _ = unix.Setsid()
	log, err := openRing(o.log, true)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	console, err := openRing(o.console, false)
	if err != nil {
		return fmt.Errorf("console: %w", err)
	}
	var c child
	logEnd, consoleEnd, feed, err := c.descriptors(o)
	if err != nil {
		return err
	}
	fifo, err := makeFifo(o)
	if err != nil {
		return fmt.Errorf("%s: %w", o.fifo, err)
	}
	pid, err := c.start(args)
	if err != nil {
		return err
	}
	fmt.Println(pid)
	detach()
	go feed()
	told := make(chan struct{})
	go func() {
		defer close(told)
		if fifo != nil {
			log.pump(fifo)
		}
	}()
	var pumps sync.WaitGroup
	pumps.Go(func() { log.pump(logEnd) })
	pumps.Go(func() { console.pump(consoleEnd) })
	status, err := wait(pid)
	// All of the namespace is gone, therefore nobody holds the other ends any more.
	pumps.Wait()
	if fifo != nil {
		// We hold its other end ourselves: there is no end of it to be read, only what is in it.
		_ = fifo.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	}
	<-told
	end(status, log)
	return err
}

// child holds what the VMM's process inherits, by number.
type child struct{ fds []int }

// descriptors makes 0 (nothing), 1 (console), 2 (log), 3 (control socket) and 4 (device state) of the VMM and returns the
// other ends; `feed` fills the last one.
func (c *child) descriptors(o *options) (log, console *os.File, feed func(), err error) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, nil, err
	}
	consoleRead, consoleWrite, err := pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	// The VMM must not block in the middle of emulating a serial port: what the ring does not take at once is lost.
	if err := unix.SetNonblock(consoleWrite, true); err != nil {
		return nil, nil, nil, err
	}
	logRead, logWrite, err := pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	c.fds = []int{null, consoleWrite, logWrite}
	feed = func() {}
	if o.qmp != "" {
		socket, err := bindSocket(o.qmp)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("%s: %w", o.qmp, err)
		}
		c.fds = append(c.fds, socket)
	}
	if o.incoming != "" {
		var read int
		if read, feed, err = incoming(o.incoming); err != nil {
			return nil, nil, nil, fmt.Errorf("%s: %w", o.incoming, err)
		}
		c.fds = append(c.fds, read)
	}
	return os.NewFile(uintptr(logRead), "log"), os.NewFile(uintptr(consoleRead), "console"), feed, nil
}

// start runs the keeper's own program again as process 1 of a new PID namespace; that process execs the VMM. Our copies of
// the inherited descriptors are closed.
func (c *child) start(args []string) (pid int, err error) {
	attributes := syscall.ProcAttr{
		Env: []string{"GOMAXPROCS=1"},
		Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Setsid: true},
	}
	for _, fd := range c.fds {
		attributes.Files = append(attributes.Files, uintptr(fd))
	}
	pid, err = syscall.ForkExec("/proc/self/exe", append([]string{"lohar", Enter}, args...), &attributes)
	for _, fd := range c.fds {
		unix.Close(fd)
	}
	return pid, err
}

func pipe() (read, write int, err error) {
	var fds [2]int
	err = unix.Pipe2(fds[:], unix.O_CLOEXEC)
	return fds[0], fds[1], err
}

// incoming opens a device state; the VMM gets a socket to read it from, never the file. (Not a pipe: QEMU waits for ever at
// the end of one that was empty.)
func incoming(path string) (read int, feed func(), err error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0, nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, err
	}
	return pair[1], func() {
		to := os.NewFile(uintptr(pair[0]), "incoming")
		_, _ = io.Copy(to, io.LimitReader(file, maxIncoming))
		to.Close()
		file.Close()
	}, nil
}

// makeFifo makes the FIFO that a VMM, which can only log to a name, logs to; nil when there is none. It lies in a folder that
// only root can write.
func makeFifo(o *options) (*os.File, error) {
	if o.fifo == "" {
		return nil, nil
	}
	if err := os.Remove(o.fifo); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	if err := unix.Mkfifo(o.fifo, 0o600); err != nil {
		return nil, err
	}
	if err := os.Lchown(o.fifo, o.uid, o.gid); err != nil {
		return nil, err
	}
	fd, err := unix.Open(o.fifo, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "fifo"), nil
}

// bindSocket binds and does not listen: the VMM does, and so SO_PEERCRED of a connection names the VMM.
func bindSocket(path string) (int, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrUnix{Name: path})
}

// detach lets go of what the daemon gave, and of every privilege but one: from here on the keeper copies bytes into files of
// root. Without CAP_KILL the VMM's death signal would not be sent when the keeper dies: the kernel asks the dying for its right.
func detach() {
	if null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		for fd := range 3 {
			_ = unix.Dup2(null, fd)
		}
		unix.Close(null)
	}
	_ = unix.Chdir("/")
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	data[0].Effective = 1 << unix.CAP_KILL
	data[0].Permitted = data[0].Effective
	_, _, _ = syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data)), 0)
	_, _, _ = syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
}

func wait(pid int) (status unix.WaitStatus, err error) {
	for {
		if _, err = unix.Wait4(pid, &status, 0, nil); !errors.Is(err, unix.EINTR) {
			return status, err
		}
	}
}

// end says in the log how the VMM ended and ends the same way.
func end(status unix.WaitStatus, log *ring) {
	if status.Exited() {
		fmt.Fprintln(log, "lohar: the VMM ended with status", status.ExitStatus())
		os.Exit(status.ExitStatus())
	}
	fmt.Fprintln(log, "lohar: the VMM was ended by signal", int(status.Signal()), unix.SignalName(status.Signal()))
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
}
