package jail

import "golang.org/x/sys/unix"

// allowed is what a VMM may ask of the kernel: what QEMU and its C library are known to call, proved by runs that enforce it
// (QEMU 7.2: the suites; 10.0: boot, pause, save, restore), and added to by `--seccomp learn` (docs/jail.md). Nothing here opens a way out of the jail's root, user or
// namespaces; what takes arguments that would is in `ruled`. Anything else answers ENOSYS.
var allowed = []uintptr{
	// The data path: guest disks, the TAP device, pipes, eventfds.
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PPOLL, unix.SYS_FUTEX,
	unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_PREADV, unix.SYS_PWRITEV, unix.SYS_PREADV2, unix.SYS_PWRITEV2,
	unix.SYS_FDATASYNC, unix.SYS_FSYNC, unix.SYS_SYNC_FILE_RANGE, unix.SYS_FTRUNCATE, unix.SYS_LSEEK,
	unix.SYS_POLL, unix.SYS_SELECT, unix.SYS_PSELECT6, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_WAIT,
	unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2, unix.SYS_SIGNALFD4, unix.SYS_PIPE2,
	// Memory: guest memory, translated code, free page reporting.
	unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_MREMAP, unix.SYS_BRK, unix.SYS_MSYNC,
	unix.SYS_MINCORE, unix.SYS_MEMBARRIER,
	// Time.
	unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_NANOSLEEP, unix.SYS_GETTIMEOFDAY,
	unix.SYS_TIMERFD_CREATE, unix.SYS_TIMERFD_SETTIME, unix.SYS_TIMERFD_GETTIME,
	// Threads and signals within the process.
	unix.SYS_SET_ROBUST_LIST, unix.SYS_GET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_SET_TID_ADDRESS, unix.SYS_GETTID,
	unix.SYS_GETPID, unix.SYS_TGKILL, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN,
	unix.SYS_RT_SIGTIMEDWAIT, unix.SYS_RT_SIGPENDING, unix.SYS_RT_SIGSUSPEND, unix.SYS_SIGALTSTACK, unix.SYS_SCHED_YIELD,
	unix.SYS_SCHED_GETAFFINITY, unix.SYS_SCHED_GETPARAM, unix.SYS_SCHED_GETSCHEDULER, unix.SYS_ARCH_PRCTL,
	unix.SYS_RESTART_SYSCALL, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	// Files: the root is read-only, and nothing in it is more than the program and its libraries.
	unix.SYS_OPENAT, unix.SYS_OPEN, unix.SYS_CLOSE, unix.SYS_CLOSE_RANGE, unix.SYS_FSTAT, unix.SYS_STAT, unix.SYS_LSTAT,
	unix.SYS_NEWFSTATAT, unix.SYS_STATX, unix.SYS_FSTATFS, unix.SYS_STATFS, unix.SYS_ACCESS, unix.SYS_FACCESSAT,
	unix.SYS_FACCESSAT2, unix.SYS_READLINK, unix.SYS_READLINKAT, unix.SYS_GETDENTS64, unix.SYS_GETCWD, unix.SYS_FCNTL,
	unix.SYS_DUP, unix.SYS_DUP2, unix.SYS_DUP3, unix.SYS_FADVISE64, unix.SYS_FLOCK, unix.SYS_UMASK,
	// Sockets that exist: the control channel and the way out for the device state.
	unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_LISTEN, unix.SYS_CONNECT, unix.SYS_SENDMSG, unix.SYS_RECVMSG,
	unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SHUTDOWN, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,
	unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT,
	// Facts about itself.
	unix.SYS_UNAME, unix.SYS_SYSINFO, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID,
	unix.SYS_GETRANDOM, unix.SYS_GETRLIMIT, unix.SYS_PRLIMIT64, unix.SYS_GETRUSAGE, unix.SYS_GETPPID, unix.SYS_GETCPU,
	// QEMU's own filter on top of this one forbids execve; without it nothing would start.
	unix.SYS_EXECVE, unix.SYS_SECCOMP,
}

// ruled are calls that are allowed with one value of one argument.
var ruled = []rule{
	// Threads, never processes. clone3 hides its flags behind a pointer: ENOSYS makes the C library use clone.
	{call: unix.SYS_CLONE, argument: 0, mask: unix.CLONE_THREAD, value: unix.CLONE_THREAD},
	// No network, netlink, packet, vsock or alg socket: the kernel's parsers behind them are out of reach.
	{call: unix.SYS_SOCKET, argument: 0, mask: ^uint32(0), value: unix.AF_UNIX},
	{call: unix.SYS_SOCKETPAIR, argument: 0, mask: ^uint32(0), value: unix.AF_UNIX},
	// Discard, zeros, growth: never space behind a file's end (KEEP_SIZE alone), which RLIMIT_FSIZE does not bound. A VMM could
	// take a whole file system with one call, the reserve of everybody's memory too.
	{call: unix.SYS_FALLOCATE, argument: 1, mask: ^uint32(0), value: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE},
	{call: unix.SYS_FALLOCATE, argument: 1, mask: ^uint32(0), value: unix.FALLOC_FL_ZERO_RANGE},
	{call: unix.SYS_FALLOCATE, argument: 1, mask: ^uint32(0), value: 0},
	// Names of threads, and what QEMU's own sandbox needs. No PR_SET_DUMPABLE, PR_SET_MM, PR_SET_PTRACER.
	{call: unix.SYS_PRCTL, argument: 0, mask: ^uint32(0), value: unix.PR_SET_NAME},
	{call: unix.SYS_PRCTL, argument: 0, mask: ^uint32(0), value: unix.PR_GET_NAME},
	{call: unix.SYS_PRCTL, argument: 0, mask: ^uint32(0), value: unix.PR_SET_TIMERSLACK},
	{call: unix.SYS_PRCTL, argument: 0, mask: ^uint32(0), value: unix.PR_SET_NO_NEW_PRIVS},
	{call: unix.SYS_PRCTL, argument: 0, mask: ^uint32(0), value: unix.PR_GET_SECCOMP},
	{call: unix.SYS_PRCTL, argument: 0, mask: ^uint32(0), value: unix.PR_SET_SECCOMP},
	{call: unix.SYS_PRCTL, argument: 0, mask: ^uint32(0), value: unix.PR_CAPBSET_READ},
}

// excepted are calls that are allowed but with these values of one argument.
var excepted = []exception{
	// Requests of file systems: XFS's among them take space behind a file's end (FS_IOC_RESVSP, on any file system), Btrfs's
	// change how files are laid out. A VMM has KVM, TAP and sockets to ask.
	{call: unix.SYS_IOCTL, argument: 1, mask: 0xff00, values: []uint32{'X' << 8, 0x94 << 8}},
}
