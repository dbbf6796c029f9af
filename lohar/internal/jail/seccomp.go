package jail

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The filter is written by hand: four kinds of instruction do not need a library and its tables.
// Layout of what it sees: struct seccomp_data of linux/seccomp.h (number, architecture, address, six arguments).
const (
	offNumber    = 0
	offArch      = 4
	offArguments = 16
	// x32 calls carry this bit: other numbers for the same calls.
	x32Bit = 0x40000000
)

// rule allows a call when the lower half of an argument, masked, has a value. All that are ruled so are ints to the kernel.
type rule struct {
	call        uintptr
	argument    int
	mask, value uint32
}

// exception allows a call unless the lower half of an argument, masked, has one of the values.
type exception struct {
	call     uintptr
	argument int
	mask     uint32
	values   []uint32
}

// seccompMode returns what installs the filter of that name.
func seccompMode(mode string) (func() error, error) {
	switch mode {
	case "off":
		return func() error { return nil }, nil
	case "enforce":
		// ENOSYS, not death: a newer QEMU or C library asks for what it can do without, falls back, and no VM is lost.
		return func() error { return install(assemble(errno(unix.ENOSYS), errno(unix.EPERM))) }, nil
	case "learn":
		return func() error { return install(assemble(unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_LOG)) }, nil
	}
	return nil, fmt.Errorf("--seccomp: enforce, learn or off, not %q", mode)
}

func errno(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }

// assemble: `other` is the answer to calls that are not in the list, `refused` to ruled ones with other arguments.
func assemble(other, refused uint32) []unix.SockFilter {
	p := []unix.SockFilter{
		load(offArch),
		skipIf(unix.AUDIT_ARCH_X86_64, 1),
		answer(unix.SECCOMP_RET_KILL_PROCESS),
		load(offNumber),
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jt: 0, Jf: 1, K: x32Bit},
		answer(unix.SECCOMP_RET_KILL_PROCESS),
	}
	for _, call := range allowed {
		p = append(p, skipUnless(uint32(call), 1), answer(unix.SECCOMP_RET_ALLOW))
	}
	for i := 0; i < len(ruled); {
		call := ruled[i].call
		var body []unix.SockFilter
		for ; i < len(ruled) && ruled[i].call == call; i++ {
			r := ruled[i]
			body = append(body,
				load(offArguments+8*uint32(r.argument)),
				unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: r.mask},
				skipUnless(r.value, 1), answer(unix.SECCOMP_RET_ALLOW))
		}
		body = append(body, answer(refused))
		p = append(append(p, skipUnless(uint32(call), uint8(len(body)))), body...)
	}
	for _, e := range excepted {
		body := []unix.SockFilter{
			load(offArguments + 8*uint32(e.argument)),
			{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: e.mask},
		}
		for _, value := range e.values {
			body = append(body, skipUnless(value, 1), answer(refused))
		}
		body = append(body, answer(unix.SECCOMP_RET_ALLOW))
		p = append(append(p, skipUnless(uint32(e.call), uint8(len(body)))), body...)
	}
	return append(p, answer(other))
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// skipIf jumps over n instructions when the accumulator is value.
func skipIf(value uint32, n uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: n, K: value}
}

func skipUnless(value uint32, n uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: n, K: value}
}

func answer(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// install puts the filter on this thread, which then execs the VMM. no_new_privs must be set.
func install(filter []unix.SockFilter) error {
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
	if e != 0 {
		return e
	}
	return nil
}
