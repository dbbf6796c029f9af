package front

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// notBelow are headers by which an answer would speak for the whole host, of which it has a path only.
var notBelow = []string{"Strict-Transport-Security", "Service-Worker-Allowed", "Clear-Site-Data", "Nel", "Report-To"}

// modify makes the guest's answer one of the address at which the client asked.
func modify(answer *http.Response) error {
	p := passingOf(answer.Request)
	// Another way to our port is not the guest's to tell.
	answer.Header.Del("Alt-Svc")
	for name := range p.grant.Headers {
		answer.Header.Del(name)
	}
	if p.prefix != "" {
		for _, name := range notBelow {
			answer.Header.Del(name)
		}
	}
	if location := answer.Header.Get("Location"); location != "" {
		answer.Header.Set("Location", seenFromOutside(location, p, answer.Request.Header.Get("X-Forwarded-Host")))
	}
	if p.alias != "" {
		ownCookies(answer.Header)
	}
	if p.cookies != "" {
		markCookies(answer.Header, p.cookies, p.prefix+"/")
	}
	return nil
}

// seenFromOutside is a Location as the client can follow it: one to the guest's own address stays below the prefix.
func seenFromOutside(location string, p *passing, host string) string {
	to, err := url.Parse(location)
	if err != nil {
		return location
	}
	if to.Host != "" {
		port := strconv.Itoa(p.grant.Port)
		own := to.Host == "localhost:"+port || to.Host == "127.0.0.1:"+port || to.Host == "[::1]:"+port || to.Host == host
		if !own || (to.Scheme != "http" && to.Scheme != "https" && to.Scheme != "") {
			return location
		}
		// Path and query as they were sent.
		at := strings.Index(location, to.Host) + len(to.Host)
		location = location[at:]
		if !strings.HasPrefix(location, "/") {
			location = "/" + location
		}
	} else if to.Scheme != "" || !strings.HasPrefix(location, "/") {
		return location
	}
	// A service that minds X-Forwarded-Prefix has put it there itself.
	if p.prefix == "" || location == p.prefix || strings.HasPrefix(location, p.prefix+"/") {
		return location
	}
	return p.prefix + location
}
