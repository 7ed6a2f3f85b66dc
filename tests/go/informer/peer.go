package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
)

// peerInfo is who answered a connection to the API server's address.
type peerInfo struct {
	Dialled string `json:"dialled"`
	// What getpeername(2) says.
	Remote     string   `json:"remote"`
	Subject    string   `json:"subject"`
	Issuer     string   `json:"issuer"`
	DNSNames   []string `json:"dnsNames"`
	Addresses  []string `json:"addresses"`
	NotAfter   string   `json:"notAfter"`
	Chain      int      `json:"chain"`
	ALPN       string   `json:"alpn"`
	TLSVersion string   `json:"tlsVersion"`
	// The chain and the address dialled verify against the pod's ca.crt.
	Verified    bool   `json:"verified"`
	VerifyError string `json:"verifyError,omitempty"`
}

// peer is the mode -peer. Its line: peer.
func peer(ctx context.Context, config *rest.Config, timeout time.Duration) error {
	server, err := url.Parse(config.Host)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(config.CAFile)
	if err != nil {
		return err
	}
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("no certificate in %s", config.CAFile)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	// Verified below: whoever answers, the test wants to see the certificate.
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}}
	conn, err := dialer.DialContext(ctx, "tcp", server.Host)
	if err != nil {
		return err
	}
	defer conn.Close()
	secure := conn.(*tls.Conn)
	info := describe(secure.ConnectionState(), roots, server.Hostname())
	info.Dialled = server.Host
	if info.Remote, err = getpeername(secure.NetConn()); err != nil {
		return err
	}
	line{Event: "peer", Peer: &info}.took(start, &answer{}, nil).print()
	return nil
}

func describe(state tls.ConnectionState, roots *x509.CertPool, name string) peerInfo {
	leaf := state.PeerCertificates[0]
	intermediates := x509.NewCertPool()
	for _, certificate := range state.PeerCertificates[1:] {
		intermediates.AddCert(certificate)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, DNSName: name})
	info := peerInfo{
		Subject:    leaf.Subject.String(),
		Issuer:     leaf.Issuer.String(),
		DNSNames:   leaf.DNSNames,
		NotAfter:   leaf.NotAfter.UTC().Format(time.RFC3339),
		Chain:      len(state.PeerCertificates),
		ALPN:       state.NegotiatedProtocol,
		TLSVersion: tls.VersionName(state.Version),
		Verified:   err == nil,
	}
	for _, address := range leaf.IPAddresses {
		info.Addresses = append(info.Addresses, address.String())
	}
	if err != nil {
		info.VerifyError = err.Error()
	}
	return info
}

func getpeername(conn net.Conn) (string, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return "", errors.New("not a TCP connection")
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return "", err
	}
	var name syscall.Sockaddr
	var failed error
	if err := raw.Control(func(fd uintptr) { name, failed = syscall.Getpeername(int(fd)) }); err != nil {
		return "", err
	}
	switch name := name.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port)).String(), failed
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr), uint16(name.Port)).String(), failed
	}
	return "", failed
}
