package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
)

// These are the names of the files with the certificate of a server and its private key.
const (
	certificateFile = "tls.crt"
	keyFile         = "tls.key"
)

// servedCertificate reads its files again for each connection, because certificates are renewed. While the files are
// invalid, it serves the last valid certificate, so that liveness probes succeed.
type servedCertificate struct {
	dir string
	log *slog.Logger

	mu      sync.Mutex
	valid   *tls.Certificate // the last valid certificate
	failure string           // the error that was logged last; "" while the files are valid
}

// openCertificate reads the certificate in a directory. It returns an error if the files are invalid.
func openCertificate(dir string, log *slog.Logger) (*servedCertificate, error) {
	valid, err := readCertificate(dir)
	if err != nil {
		return nil, err
	}
	return &servedCertificate{dir: dir, log: log, valid: valid}, nil
}

func readCertificate(dir string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, certificateFile), filepath.Join(dir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("%w: the files %s and %s in %s must be a certificate and its private key in PEM; correct them, or the Secret that is mounted there",
			err, certificateFile, keyFile, dir)
	}
	return &pair, nil
}

// get returns the certificate for a connection. It implements the field GetCertificate of tls.Config.
func (c *servedCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	read, err := readCertificate(c.dir)
	switch {
	case err == nil:
		c.valid = read
		if c.failure != "" {
			c.log.Info("The certificate is valid again")
			c.failure = ""
		}
	case err.Error() != c.failure:
		c.failure = err.Error()
		c.log.Error("The certificate is invalid or cannot be read; the previous certificate remains in use", "error", err)
	}
	return c.valid, nil
}
