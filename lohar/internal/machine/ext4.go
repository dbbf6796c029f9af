package machine

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ext4ResizeFS = 0x40086610 // EXT4_IOC_RESIZE_FS
	fiFreeze     = 0xc0045877
	fiThaw       = 0xc0045878
	rootDevice   = "/dev/vda"
)

// GrowRoot resizes the mounted root file system to its device.
func (r *Real) GrowRoot() error {
	dev, err := os.Open(rootDevice)
	if err != nil {
		return err
	}
	defer dev.Close()
	var size uint64
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, dev.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size))); e != 0 {
		return os.NewSyscallError("BLKGETSIZE64", e)
	}
	var super [1024]byte
	if _, err := dev.ReadAt(super[:], 1024); err != nil {
		return err
	}
	blockSize, blocks, err := parseSuper(super[:])
	if err != nil {
		return err
	}
	want := size / blockSize
	if want <= blocks {
		return nil
	}
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	defer root.Close()
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, root.Fd(), ext4ResizeFS, uintptr(unsafe.Pointer(&want))); e != 0 {
		return os.NewSyscallError("EXT4_IOC_RESIZE_FS", e)
	}
	return nil
}

// parseSuper reads block size and number of blocks (Documentation/filesystems/ext4/super.rst).
func parseSuper(s []byte) (blockSize, blocks uint64, err error) {
	le := binary.LittleEndian
	if len(s) < 0x154 || le.Uint16(s[0x38:]) != 0xef53 || le.Uint32(s[0x18:]) > 6 {
		return 0, 0, errors.New("not an ext4 file system")
	}
	blocks = uint64(le.Uint32(s[4:]))
	if le.Uint32(s[0x60:])&0x80 != 0 { // INCOMPAT_64BIT
		blocks |= uint64(le.Uint32(s[0x150:])) << 32
	}
	return 1024 << le.Uint32(s[0x18:]), blocks, nil
}

// FreezeFS stops writes to the root file system.
func (r *Real) FreezeFS() error { return rootIoctl(fiFreeze, unix.EBUSY) }

// ThawFS lets them through again.
func (r *Real) ThawFS() error { return rootIoctl(fiThaw, unix.EINVAL) }

func rootIoctl(request uintptr, already syscall.Errno) error {
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, 0); e != 0 && e != already {
		return e
	}
	return nil
}
