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
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		scan := bufio.NewScanner(f)
		for scan.Scan() && len(list) < maxPorts {
			if p, ok := parseListener(scan.Text()); ok && p.Port != c.s.port && !slices.Contains(list, p) {
				list = append(list, p)
			}
		}
		f.Close()
	}
	return map[string]any{"ports": list}, nil
}

// parseListener reads a line of /proc/net/tcp{,6} (proc_net_tcp in the kernel's documentation): the address is in words
// of the host's byte order, little endian here.
func parseListener(line string) (openPort, bool) {
	f := strings.Fields(line)
	if len(f) < 4 || f[3] != "0A" {
		return openPort{}, false
	}
	host, port, ok := strings.Cut(f[1], ":")
	n, err := strconv.ParseUint(port, 16, 16)
	raw, err2 := hex.DecodeString(host)
	if !ok || err != nil || err2 != nil || len(raw)%4 != 0 {
		return openPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	addr, ok := netip.AddrFromSlice(raw)
	return openPort{int(n), addr.String()}, ok
}
