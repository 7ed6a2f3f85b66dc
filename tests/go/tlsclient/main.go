// tlsclient makes a cluster CA as kubeadm does, and dials a server trusting that CA alone, as client-go does.
//
//	tlsclient make-ca pkcs1|sec1|pkcs8 CERT KEY
//	tlsclient dial ADDRESS CA [NAME]
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "make-ca":
		return makeCA(args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "dial":
		return dial(args[1], args[2], "")
	case len(args) == 4 && args[0] == "dial":
		return dial(args[1], args[2], args[3])
	}
	return errors.New("usage: tlsclient make-ca pkcs1|sec1|pkcs8 CERT KEY | dial ADDRESS CA [NAME]")
}

func makeCA(kind, certFile, keyFile string) error {
	key, block, err := newKey(kind)
	if err != nil {
		return err
	}
	// The template of kubeadm's certificate authorities.
	ca := &x509.Certificate{
		SerialNumber:          new(big.Int),
		Subject:               pkix.Name{CommonName: "kubernetes"},
		DNSNames:              []string{"kubernetes"},
		NotBefore:             time.Now().Add(-5 * time.Minute),
		NotAfter:              time.Now().AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	ca.SerialNumber.SetInt64(1)
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return err
	}
	if err := writePEM(certFile, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		return err
	}
	return writePEM(keyFile, block)
}

func newKey(kind string) (crypto.Signer, *pem.Block, error) {
	if kind == "pkcs1" {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, nil, err
		}
		return key, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	switch kind {
	case "sec1":
		der, err := x509.MarshalECPrivateKey(key)
		return key, &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}, err
	case "pkcs8":
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return key, &pem.Block{Type: "PRIVATE KEY", Bytes: der}, err
	}
	return nil, nil, fmt.Errorf("no kind of key is called %q", kind)
}

func writePEM(path string, block *pem.Block) error {
	return os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

func dial(address, caFile, name string) error {
	text, err := os.ReadFile(caFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return fmt.Errorf("%s holds no certificate", caFile)
	}
	dialer := &tls.Dialer{
		NetDialer: &net.Dialer{Timeout: 10 * time.Second},
		// Without a name the address itself is verified, and no SNI is sent.
		Config: &tls.Config{RootCAs: roots, ServerName: name, NextProtos: []string{"h2", "http/1.1"}},
	}
	connection, err := dialer.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	answer, err := io.ReadAll(connection)
	if err != nil {
		return err
	}
	state := connection.(*tls.Conn).ConnectionState()
	leaf := state.PeerCertificates[0]
	fmt.Printf("%s %s issuer=%q\n", answer, state.NegotiatedProtocol, leaf.Issuer.CommonName)
	return nil
}
