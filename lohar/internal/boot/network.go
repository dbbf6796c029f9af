package boot

import (
	"os"
	"strconv"
	"strings"
	"time"

	"bhatti/lohar/internal/netlink"
)

// The address inside is the same in every sandbox; the sandbox's namespace translates it.
var (
	address    = [4]byte{169, 254, 77, 2}
	gateway    = [4]byte{169, 254, 77, 1}
	gatewayMAC = [6]byte{2, 0, 0, 0, 0, 1}
)

const (
	prefix     = 30
	deviceWait = 5 * time.Second
)

// network brings up loopback and eth0.
func network() error {
	// IPv6 is off outside, before any interface is up, and on inside: ::1 is an address that programs expect.
	for _, name := range []string{"all", "default"} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
	}
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte("0"), 0)
	c, err := netlink.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Up(1); err != nil {
		return err
	}
	var index int
	err = waitFor("eth0", deviceWait, func() bool {
		b, err := os.ReadFile("/sys/class/net/eth0/ifindex")
		if err == nil {
			index, err = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return c.AddAddress(index, address, prefix) },
		func() error { return c.Up(index) },
		func() error { return c.AddDefaultRoute(index, gateway) },
		func() error { return c.AddNeighbour(index, gateway, gatewayMAC) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
