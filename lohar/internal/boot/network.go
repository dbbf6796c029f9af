package boot

import (
	"encoding/binary"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Same in every guest; the host's namespace translates. See src/network/network.ts (GUEST).
const (
	guestAddress = "169.254.77.2"
	gateway      = "169.254.77.1"
	mask         = "255.255.255.252"
	device       = "eth0"
)

type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data [24]byte
}

func request(name string) *ifreq {
	r := &ifreq{}
	copy(r.name[:unix.IFNAMSIZ-1], name)
	return r
}

func (r *ifreq) address(ip string) *ifreq {
	binary.LittleEndian.PutUint16(r.data[0:], unix.AF_INET)
	a := netip.MustParseAddr(ip).As4()
	copy(r.data[4:8], a[:])
	return r
}

func ioctl(fd int, op uintptr, arg unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), op, uintptr(arg)); e != 0 {
		return e
	}
	return nil
}

func linkUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r := request(name)
	binary.LittleEndian.PutUint16(r.data[0:], unix.IFF_UP|unix.IFF_RUNNING)
	return ioctl(fd, unix.SIOCSIFFLAGS, unsafe.Pointer(r))
}

func configureNetwork() error {
	for i := 0; i < 2000; i++ {
		if _, err := os.Stat("/sys/class/net/" + device); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for _, name := range []string{"all", "default", device} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := ioctl(fd, unix.SIOCSIFADDR, unsafe.Pointer(request(device).address(guestAddress))); err != nil {
		return err
	}
	if err := ioctl(fd, unix.SIOCSIFNETMASK, unsafe.Pointer(request(device).address(mask))); err != nil {
		return err
	}
	if err := linkUp(device); err != nil {
		return err
	}
	return defaultRoute(fd)
}

// rtentry of <linux/route.h> on 64-bit machines.
type rtentry struct {
	_                     uint64
	dst, gateway, genmask [16]byte
	flags                 uint16
	_                     [6]byte
	_                     [3]uint64
	dev                   *byte
	_                     [3]uint64
}

func defaultRoute(fd int) error {
	const up, viaGateway = 1, 2
	r := rtentry{flags: up | viaGateway}
	for _, field := range []*[16]byte{&r.dst, &r.genmask} {
		binary.LittleEndian.PutUint16(field[:], unix.AF_INET)
	}
	binary.LittleEndian.PutUint16(r.gateway[:], unix.AF_INET)
	a := netip.MustParseAddr(gateway).As4()
	copy(r.gateway[4:8], a[:])
	return ioctl(fd, unix.SIOCADDRT, unsafe.Pointer(&r))
}
