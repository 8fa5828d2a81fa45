package httpserver

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Guard protects a server on a user's machine from web sites that the user visits. It rejects, with status 403,
//
//   - requests whose host is not an IP address, localhost, a name below localhost, or a given name. A site can make its
//     own name resolve to this machine (DNS rebinding).
//   - requests that a browser sends for another site or port, except followed links. Browsers let a site send requests,
//     even if the site may not read the responses.
func Guard(names []string, h http.Handler) http.Handler {
	var known []string
	for _, name := range names {
		if name = normalizeHost(name); name != "" {
			known = append(known, name)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !isLocalHost(r.Host) && !slices.Contains(known, hostname(r.Host)):
			Problem(w, http.StatusForbidden, "this server does not answer requests for this host name: use localhost or an IP address")
		case !isSameOrigin(r) && !isLink(r):
			Problem(w, http.StatusForbidden, "this server rejects requests from other web sites")
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// isSameOrigin reports whether a request comes from a page of this server, from the user (for example, from the address
// bar), or from a program other than a browser.
func isSameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return false
	}
	// Old browsers do not send Sec-Fetch-Site, so also check the header Origin.
	origin := r.Header.Get("Origin")
	u, err := url.Parse(origin)
	return origin == "" || err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// isLink reports whether a browser opens a page of this server because the user follows a link on another site.
func isLink(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

// isLocalHost reports whether a Host header contains an IP address, localhost, or a name below localhost.
func isLocalHost(hostport string) bool {
	host := hostname(hostport)
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// hostname returns the normalized host name or address in a Host header, without the port and without brackets.
func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return normalizeHost(host)
	}
	return normalizeHost(strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]"))
}

// normalizeHost returns a host name in lower case and without the dot that ends an absolute name.
func normalizeHost(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
