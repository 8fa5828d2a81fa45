package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// validity is the validity period of certificates. A cluster runs for a few hours only.
const validity = 30 * 24 * time.Hour

// pki signs certificates, and writes them with their keys to a directory.
type pki struct {
	directory    string
	authority    *x509.Certificate
	key          crypto.Signer
	authorityPEM []byte
}

// newPKI creates a certificate authority and writes it to ca.crt and ca.key.
func newPKI(directory string) (*pki, error) {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, err
	}
	p := &pki{directory: directory}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "parking-cluster"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	certificate, key, err := p.create("ca", template)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(certificate)
	if p.authority, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, err
	}
	p.authorityPEM, p.key = certificate, key
	return p, nil
}

// server creates a server certificate for the given host names and IP addresses.
func (p *pki) server(name string, hosts ...string) error {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	_, _, err := p.create(name, template)
	return err
}

// client creates a client certificate, from which the API server reads the user and the groups.
func (p *pki) client(name, user string, groups ...string) error {
	_, _, err := p.create(name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// create creates a private key and a certificate, and writes them to NAME.key and NAME.crt.
func (p *pki) create(name string, template *x509.Certificate) (certificate []byte, key crypto.Signer, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("create the certificate %s: %w", name, err)
		}
	}()
	key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	template.NotBefore = time.Now().Add(-time.Minute)
	template.NotAfter = time.Now().Add(validity)
	parent, signer := p.authority, p.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := p.write(name+".crt", certificate); err != nil {
		return nil, nil, err
	}
	return certificate, key, p.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func (p *pki) write(name string, content []byte) error {
	return os.WriteFile(filepath.Join(p.directory, name), content, 0o600)
}

func (p *pki) read(name string) ([]byte, error) { return os.ReadFile(filepath.Join(p.directory, name)) }

func (p *pki) certificates() error {
	for _, create := range []func() error{
		func() error {
			return p.server("apiserver", "127.0.0.1", nodeAddress, apiService, "localhost", "kubernetes",
				"kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc."+domain)
		},
		func() error { return p.server("kubelet", nodeAddress, nodeName) },
		func() error { return p.client("apiserver-kubelet", "kube-apiserver", "system:masters") },
		func() error { return p.client("admin", "admin", "system:masters") },
		func() error { return p.client("kube-controller-manager", "system:kube-controller-manager") },
		func() error { return p.client("kube-scheduler", "system:kube-scheduler") },
		func() error { return p.client("kube-proxy", "system:kube-proxy") },
		func() error { return p.client(kubeRouter, kubeRouter, "system:masters") },
		func() error { return p.client("node", "system:node:"+nodeName, "system:nodes") },
		// The key of this certificate signs ServiceAccount tokens.
		func() error { return p.client("service-accounts", "service-accounts") },
	} {
		if err := create(); err != nil {
			return err
		}
	}
	return nil
}

// kubeconfig returns a kubeconfig that contains the client certificate with the given name.
func (p *pki) kubeconfig(name, server string) ([]byte, error) {
	certificate, err := p.read(name + ".crt")
	if err != nil {
		return nil, err
	}
	key, err := p.read(name + ".key")
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: parking
  cluster: {server: "https://%s", certificate-authority-data: %s}
users:
- name: %s
  user: {client-certificate-data: %s, client-key-data: %s}
contexts:
- name: parking
  context: {cluster: parking, user: %[3]s}
current-context: parking
`, server, encoded(p.authorityPEM), name, encoded(certificate), encoded(key)), nil
}

func encoded(text []byte) string { return base64.StdEncoding.EncodeToString(text) }
