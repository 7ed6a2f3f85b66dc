// Command tenkinds is an in-cluster program with informers on ten kinds, as a
// controller has them: nothing but rest.InClusterConfig and client-go's own
// defaults. Whoever connects to the unix socket that it listens on is sent one
// line of JSON that tells what it holds.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/rest"
)

func main() {
	socket := flag.String("socket", "", "unix socket to tell on what is held")
	namespace := flag.String("namespace", "default", "namespace of the kinds that are watched in one namespace only")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *socket, *namespace); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, socket, namespace string) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	counts := new(requests)
	config.Wrap(counts.wrap)
	kinds, err := informAll(ctx, config, namespace)
	if err != nil {
		return err
	}
	return serve(ctx, socket, func() report { return reportOf(kinds, counts) })
}
