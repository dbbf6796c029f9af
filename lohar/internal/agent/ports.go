package agent

import (
	"bufio"
	"encoding/hex"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

type openPort struct {
	Port    int    `json:"port"`
	Address string `json:"address"`
}

const maxPorts = 4096

// ports lists the listening TCP sockets of the guest without our own.
func ports(c *conn, _ []byte) (any, error) {
	list := []openPort{}
	eachListener(func(addr netip.Addr, port int) {
		p := openPort{port, addr.String()}
		if port != c.s.port && len(list) < maxPorts && !slices.Contains(list, p) {
			list = append(list, p)
		}
	})
	return map[string]any{"ports": list}, nil
}

// eachListener calls f for every listening TCP socket.
func eachListener(f func(addr netip.Addr, port int)) {
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		file, err := os.Open(path)
		if err != nil {
			continue
		}
		scan := bufio.NewScanner(file)
		for scan.Scan() {
			if addr, port, ok := parseListener(scan.Text()); ok {
				f(addr, port)
			}
		}
		file.Close()
	}
}

// parseListener reads a line of /proc/net/tcp{,6} (proc_net_tcp in the kernel's documentation): the address is in words
// of the host's byte order, little endian here.
func parseListener(line string) (addr netip.Addr, port int, ok bool) {
	f := strings.Fields(line)
	if len(f) < 4 || f[3] != "0A" {
		return addr, 0, false
	}
	host, text, ok := strings.Cut(f[1], ":")
	n, err := strconv.ParseUint(text, 16, 16)
	raw, err2 := hex.DecodeString(host)
	if !ok || err != nil || err2 != nil || len(raw)%4 != 0 {
		return addr, 0, false
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	addr, ok = netip.AddrFromSlice(raw)
	return addr.Unmap(), int(n), ok
}
