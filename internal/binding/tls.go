package binding

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// TLSConfig returns the client configuration, or nil if the URI does not use TLS. If serverName is empty, the server's
// certificate must be valid for the dialed host. Otherwise, it must be valid for serverName or for the host of any
// endpoint.
func (b Binding) TLSConfig(serverName string) (*tls.Config, error) {
	if b.URI == nil || !isTLSScheme(b.URI.Scheme) {
		return nil, nil //nolint:nilnil // no configuration means no TLS
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName}
	if err := b.AddCertificates(config); err != nil {
		return nil, err
	}
	roots := config.RootCAs
	// The nodes of a cluster may announce addresses for which their certificate is not valid. So accept a certificate
	// that is valid for any endpoint.
	if hosts := b.hostnames(); serverName != "" && !slices.Equal(hosts, []string{serverName}) {
		config.InsecureSkipVerify = true // VerifyConnection verifies the server's certificate instead
		config.VerifyConnection = func(state tls.ConnectionState) error { return verify(state, roots, serverName, hosts) }
	}
	return config, nil
}

// AddCertificates adds the certificates of the binding to a client's TLS configuration. If the binding lacks a
// certificate, the field for it does not change.
func (b Binding) AddCertificates(config *tls.Config) error {
	roots, err := b.roots()
	if err != nil {
		return err
	}
	certificate, err := b.certificate()
	if err != nil {
		return err
	}
	if roots != nil {
		config.RootCAs = roots
	}
	if certificate != nil {
		// Always send the certificate. By default, package tls omits a certificate whose CA the server does not accept.
		// The server would then report a missing certificate instead of an unknown CA.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	return nil
}

func isTLSScheme(scheme string) bool {
	for _, s := range []Service{RabbitMQ(), Redis(), HTTP()} {
		if scheme == s.TLSScheme {
			return true
		}
	}
	return false
}

// verify checks a server's certificate chain as package tls does. The certificate must be valid for at least one of the
// given hosts.
func verify(state tls.ConnectionState, roots *x509.CertPool, name string, others []string) error {
	certificate, intermediates := state.PeerCertificates[0], x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	if _, err := certificate.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates}); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	err := certificate.VerifyHostname(name)
	isValid := func(other string) bool { return certificate.VerifyHostname(other) == nil }
	if err == nil || slices.ContainsFunc(others, isValid) {
		return nil
	}
	return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
}

// roots returns the CA certificates that the client trusts. It returns nil if the client trusts the CA certificates of
// the operating system.
func (b Binding) roots() (*x509.CertPool, error) {
	if b.CA == nil {
		return nil, nil //nolint:nilnil // for package tls, nil means the CA certificates of the system
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b.CA) {
		return nil, fmt.Errorf("key %q contains no PEM certificate", keyCA)
	}
	return pool, nil
}

// certificate returns the client certificate, or nil if the binding has no client certificate.
func (b Binding) certificate() (*tls.Certificate, error) {
	switch {
	case b.Certificate == nil && b.Key == nil:
		return nil, nil //nolint:nilnil // nil means that there is no certificate
	case b.Key == nil:
		return nil, fmt.Errorf("key %q is set, but key %q is missing: a client certificate needs both", keyCertificate, keyKey)
	case b.Certificate == nil:
		return nil, fmt.Errorf("key %q is set, but key %q is missing: a client certificate needs both", keyKey, keyCertificate)
	}
	pair, err := tls.X509KeyPair(b.Certificate, b.Key)
	if err != nil {
		return nil, fmt.Errorf("keys %q and %q are not a certificate and its private key in PEM: %w", keyCertificate, keyKey, err)
	}
	return &pair, nil
}

// SameTLS reports whether two bindings have the same certificates and private key.
func (b Binding) SameTLS(other Binding) bool {
	return bytes.Equal(b.CA, other.CA) && bytes.Equal(b.Certificate, other.Certificate) && bytes.Equal(b.Key, other.Key)
}

// checkTLS returns an error if a certificate or the private key is invalid.
func (b Binding) checkTLS() error {
	_, err := b.roots()
	if err != nil {
		return err
	}
	_, err = b.certificate()
	return err
}

// ExplainTLS returns what the user can do about a TLS failure, or "" for any other error. The text does not end with a
// full stop.
func ExplainTLS(err error) string {
	if err == nil {
		return ""
	}
	if remedy := explainOwn(err); remedy != "" {
		return remedy
	}
	if remedy := explainAlert(err.Error()); remedy != "" {
		return remedy
	}
	if text := err.Error(); strings.Contains(text, "tls: ") || strings.Contains(text, "x509: ") {
		return "check that the port speaks TLS, and that the server's certificate is valid"
	}
	return ""
}

// explainOwn explains an error with which the client itself has aborted a TLS handshake.
func explainOwn(err error) string {
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &plain), errors.Is(err, http.ErrSchemeMismatch), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "the port does not speak TLS: use the port for TLS, or a URI without TLS (amqp, redis, http)"
	case strings.Contains(err.Error(), "TLS handshake timeout"): // net/http does not export this error
		return "the port does not answer the TLS handshake: check that it speaks TLS, or use a URI without TLS (amqp, redis, http)"
	case strings.Contains(err.Error(), "server selected unsupported protocol version"):
		return "the server offers only TLS 1.1 or older: enable TLS 1.2 or 1.3 on it"
	}
	return explainCertificate(err)
}

// explainCertificate explains why the client has rejected the certificate of the server.
func explainCertificate(err error) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority) && strings.Contains(err.Error(), "possibly because of"):
		// The client trusts a CA certificate with the name of the issuer, but that certificate is invalid or has
		// another key.
		return "the CA certificate in " + keyCA + " cannot verify the server's certificate: the CA certificate may have expired or been replaced; put the current certificate of the CA into " + keyCA
	case errors.As(err, &authority):
		return "the client does not know the CA of the server's certificate: put the certificate of that CA into " + keyCA
	case errors.As(err, &name) && len(name.Certificate.DNSNames)+len(name.Certificate.IPAddresses) == 0:
		return "the server's certificate has no subject alternative names: issue a certificate with the host as DNS name or IP address"
	case errors.As(err, &name):
		return "the server's certificate is for another host: use a host name of the certificate, or issue a certificate for this host"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate, or the CA certificate in " + keyCA + ", has expired or is not valid yet: renew the certificate, or correct the clock"
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return "the server's certificate is not for servers: issue a certificate with the extended key usage serverAuth"
	case errors.As(err, &invalid) && invalid.Reason == x509.NotAuthorizedToSign:
		return "a certificate in the server's chain or in " + keyCA + " is not a CA certificate: put the certificate of the CA into " + keyCA
	}
	return ""
}

// explainAlert explains why the server has aborted a TLS handshake. It parses the text: package tls uses tls.AlertError
// only for QUIC, and errors of the RabbitMQ client contain only text.
func explainAlert(text string) string {
	_, alert, found := strings.Cut(text, "remote error: tls: ")
	if !found {
		return ""
	}
	for _, known := range []struct{ alert, remedy string }{
		{"certificate required", "the server requires a client certificate: give it in " + keyCertificate + " and " + keyKey},
		{"bad certificate", "the server requires a client certificate that it trusts: check " + keyCertificate + " and " + keyKey},
		{"unknown certificate authority", "the server does not know the CA of the client certificate in " + keyCertificate +
			": use a certificate of a CA that the server trusts"},
		{"unsupported certificate", "the server does not accept the client certificate in " + keyCertificate +
			": issue a certificate with the extended key usage clientAuth"},
		{"unknown certificate", "the server does not accept the client certificate in " + keyCertificate + ": see the log of the server"},
		{"access denied", "the server does not accept the client certificate in " + keyCertificate + ": see the log of the server"},
		{"insufficient security level", "the server requires stronger keys or ciphers: see the log of the server"},
		{"expired certificate", "the client certificate in " + keyCertificate + " has expired: renew it"},
		{"revoked certificate", "the client certificate in " + keyCertificate + " has been revoked: renew it"},
		{"handshake failure", "the server rejects the handshake: it may require another version of TLS, or a client certificate (" +
			keyCertificate + " and " + keyKey + ")"},
		{"protocol version not supported", "the server does not accept TLS 1.2 or 1.3: enable one of them"},
		{"unrecognized name", "the server has no certificate for this host: correct the host name"},
	} {
		if strings.HasPrefix(alert, known.alert) {
			return known.remedy
		}
	}
	return "the server rejects the handshake: see the log of the server"
}
