package jail

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// attempts are calls of a VMM that was taken over. Each is made with arguments that a kernel without a filter does not
// answer with the filter's errno.
var attempts = []struct {
	name string
	call func() unix.Errno
	want unix.Errno
}{
	{"io_uring_setup", raw(unix.SYS_IO_URING_SETUP, 8, 0, 0), unix.ENOSYS},
	{"userfaultfd", raw(unix.SYS_USERFAULTFD, 0xff00, 0, 0), unix.ENOSYS},
	{"add_key", raw(unix.SYS_ADD_KEY, 0, 0, 0), unix.ENOSYS},
	{"request_key", raw(unix.SYS_REQUEST_KEY, 0, 0, 0), unix.ENOSYS},
	{"keyctl", raw(unix.SYS_KEYCTL, 0xffff, 0, 0), unix.ENOSYS},
	{"bpf", raw(unix.SYS_BPF, 0xffff, 0, 0), unix.ENOSYS},
	{"perf_event_open", raw(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0), unix.ENOSYS},
	{"unshare", raw(unix.SYS_UNSHARE, 0x1, 0, 0), unix.ENOSYS},
	{"setns", raw(unix.SYS_SETNS, ^uintptr(0), 0, 0), unix.ENOSYS},
	{"mount", raw(unix.SYS_MOUNT, 1, 1, 0), unix.ENOSYS},
	{"open_tree", raw(unix.SYS_OPEN_TREE, 0, 1, 0xffff), unix.ENOSYS},
	{"ptrace", raw(unix.SYS_PTRACE, 0xffff, 1<<30, 0), unix.ENOSYS},
	{"process_vm_readv", raw(unix.SYS_PROCESS_VM_READV, 1<<30, 0, 0), unix.ENOSYS},
	{"kill", raw(unix.SYS_KILL, 1<<30, 0, 0), unix.ENOSYS},
	{"setuid", raw(unix.SYS_SETUID, ^uintptr(0), 0, 0), unix.ENOSYS},
	{"chown", raw(unix.SYS_CHOWN, 1, 0, 0), unix.ENOSYS},
	{"mknodat", raw(unix.SYS_MKNODAT, ^uintptr(0), 1, 0), unix.ENOSYS},
	{"symlink", raw(unix.SYS_SYMLINK, 1, 1, 0), unix.ENOSYS},
	{"clone3", raw(unix.SYS_CLONE3, 0, 0, 0), unix.ENOSYS},
	{"fork", raw(unix.SYS_CLONE, unix.CLONE_THREAD<<8|unix.CLONE_SIGHAND, 0, 0), unix.EPERM},
	{"socket AF_INET", socket(unix.AF_INET), unix.EPERM},
	{"socket AF_NETLINK", socket(unix.AF_NETLINK), unix.EPERM},
	{"socket AF_PACKET", socket(unix.AF_PACKET), unix.EPERM},
	{"socket AF_VSOCK", socket(unix.AF_VSOCK), unix.EPERM},
	{"socket AF_ALG", socket(unix.AF_ALG), unix.EPERM},
	{"socket AF_UNIX", socket(unix.AF_UNIX), 0},
	{"prctl PR_SET_DUMPABLE", raw(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 7, 0), unix.EPERM},
	{"fallocate behind the end", raw(unix.SYS_FALLOCATE, ^uintptr(0), unix.FALLOC_FL_KEEP_SIZE, 0), unix.EPERM},
	{"fallocate of zeros behind the end", raw(unix.SYS_FALLOCATE, ^uintptr(0), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, 0), unix.EPERM},
	{"discard", raw(unix.SYS_FALLOCATE, ^uintptr(0), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0), unix.EBADF},
	{"ioctl FS_IOC_RESVSP64", raw(unix.SYS_IOCTL, ^uintptr(0), 0x4030582a, 0), unix.EPERM},
	{"ioctl BTRFS_IOC_DEFRAG", raw(unix.SYS_IOCTL, ^uintptr(0), 0x50009402, 0), unix.EPERM},
	{"ioctl FIONBIO", raw(unix.SYS_IOCTL, ^uintptr(0), 0x5421, 0), unix.EBADF},
	{"getpid", raw(unix.SYS_GETPID, 0, 0, 0), 0},
}

func raw(n, a, b, c uintptr) func() unix.Errno {
	return func() unix.Errno {
		_, _, e := unix.RawSyscall(n, a, b, c)
		return e
	}
}

// socket of a family and type that the kernel may know or not: never EPERM for root.
func socket(family uintptr) func() unix.Errno {
	return raw(unix.SYS_SOCKET, family, unix.SOCK_DGRAM, 0)
}

const attackerEnv = "LOHAR_TEST_SECCOMP"

func TestMain(m *testing.M) {
	mode := os.Getenv(attackerEnv)
	if mode == "" {
		os.Exit(m.Run())
	}
	runtime.LockOSThread()
	filter, err := seccompMode(mode)
	if err == nil {
		err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if err == nil {
		err = filter()
	}
	if err != nil {
		fmt.Println("setup:", err)
		os.Exit(1)
	}
	for _, a := range attempts {
		fmt.Printf("%s=%d\n", a.name, a.call())
	}
	os.Exit(0)
}

func attack(t *testing.T, mode string) map[string]string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), attackerEnv+"="+mode)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	answers := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, answer, _ := strings.Cut(strings.TrimSpace(line), "=")
		answers[name] = answer
	}
	return answers
}

func TestFilterRefusesWhatAVMMNeverNeeds(t *testing.T) {
	with, without := attack(t, "enforce"), attack(t, "off")
	for _, a := range attempts {
		want := fmt.Sprint(int(a.want))
		if with[a.name] != want {
			t.Errorf("%s: errno %s, want %s", a.name, with[a.name], want)
		}
		// The twin: the same call gets through when the filter is away.
		if a.want != 0 && a.want != unix.EBADF && without[a.name] == want && os.Geteuid() == 0 {
			t.Errorf("%s proves nothing: errno %s without a filter too", a.name, want)
		}
	}
}
