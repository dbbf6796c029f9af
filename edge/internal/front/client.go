package front

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

type clientKey struct{}

// client is who sent a request, as far as it is believed.
type client struct {
	// Address of the client itself, behind proxies that are trusted.
	address string
	// What goes along as X-Forwarded-For.
	forwarded string
	// "http" or "https".
	proto string
}

func (s *Server) clientOf(r *http.Request) client {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	c := client{address: host, forwarded: host, proto: "http"}
	if r.TLS != nil {
		c.proto = "https"
	}
	if !s.trusts(host) {
		return c
	}
	if proto := r.Header.Get("X-Forwarded-Proto"); proto == "http" || proto == "https" {
		c.proto = proto
	}
	// From the right: whoever is not trusted is the client, and what stands left of it is only said.
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop := strings.TrimSpace(hops[i])
		if _, err := netip.ParseAddr(hop); err != nil {
			break
		}
		c.address = hop
		c.forwarded = hop + ", " + c.forwarded
		if !s.trusts(hop) {
			break
		}
	}
	return c
}

func (s *Server) trusts(address string) bool {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	for _, prefix := range s.config.TrustedProxies {
		if prefix.Contains(ip.Unmap()) {
			return true
		}
	}
	return false
}
