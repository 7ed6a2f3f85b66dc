// Command informer is an in-cluster client as its users write them: it knows
// the API server only from rest.InClusterConfig. It prints one JSON object a
// line for everything that happens to it, so that a test can wait for lines.
//
// Fields of every line: t (unix milliseconds) and event. Without a mode flag
// it runs an informer. Modes can be combined, except -peer, -create and
// -delete, which do one thing and exit: 0 if it went well, 1 if not.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

type options struct {
	namespace string
	resource  string
	gvr       schema.GroupVersionResource

	informer    bool
	get         string
	every       time.Duration
	rewatch     bool
	rewatchFor  time.Duration
	rewatchFrom string
	timeout     time.Duration

	peer   bool
	create string
	remove string
}

func main() {
	o, requests := parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	config, err := rest.InClusterConfig()
	if err != nil {
		fail("config", err)
	}
	if o.peer {
		if err := peer(ctx, config, o.timeout); err != nil {
			fail("peer-error", err)
		}
		return
	}
	// The default of 5 requests a second would be measured as latency.
	config.QPS = -1
	config.Wrap(recorder(requests))
	if err := run(ctx, config, o); err != nil {
		fail("config", err)
	}
}

func run(ctx context.Context, config *rest.Config, o options) error {
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	untyped, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	c, err := newClient(typed, untyped, o)
	if err != nil {
		return err
	}
	if o.create != "" || o.remove != "" {
		if !c.write(ctx) {
			os.Exit(1)
		}
		return nil
	}
	var modes sync.WaitGroup
	if o.informer {
		modes.Go(func() { c.inform(ctx) })
	}
	if o.get != "" {
		modes.Go(func() { c.poll(ctx) })
	}
	if o.rewatch {
		modes.Go(func() { c.rewatch(ctx) })
	}
	modes.Wait()
	return nil
}

func parse() (options, bool) {
	var o options
	var gvr string
	var requests bool
	flag.StringVar(&o.namespace, "namespace", "", "namespace; empty: all")
	flag.StringVar(&o.resource, "resource", "configmaps", "configmaps or pods, read with the typed client (protobuf)")
	flag.StringVar(&gvr, "gvr", "", "GROUP/VERSION/RESOURCE, read with the dynamic client (JSON) instead; core is /v1/pods")
	flag.BoolVar(&o.informer, "informer", false, "run a shared informer; the default when there is no other mode")
	flag.StringVar(&o.get, "get", "", "GET this name and LIST, again and again")
	flag.DurationVar(&o.every, "every", 100*time.Millisecond, "pause of -get")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Second, "of one GET, LIST or write")
	flag.BoolVar(&o.rewatch, "rewatch", false, "hold a plain watch that closes and opens itself again from the RV it saw last")
	flag.DurationVar(&o.rewatchFor, "rewatch-for", 2*time.Second, "how long -rewatch keeps a watch open")
	flag.StringVar(&o.rewatchFrom, "rewatch-from", "", "RV that -rewatch starts from; empty: that of a LIST")
	flag.BoolVar(&o.peer, "peer", false, "open one TLS connection and tell who answers")
	flag.StringVar(&o.create, "create", "", "create a ConfigMap of this name")
	flag.StringVar(&o.remove, "delete", "", "delete the ConfigMap of this name")
	flag.BoolVar(&requests, "requests", false, "also print each HTTP exchange")
	flag.Parse()
	if gvr != "" {
		parts := strings.Split(gvr, "/")
		if len(parts) != 3 {
			fail("config", fmt.Errorf("-gvr %q is not GROUP/VERSION/RESOURCE", gvr))
		}
		o.gvr = schema.GroupVersionResource{Group: parts[0], Version: parts[1], Resource: parts[2]}
	}
	if o.get == "" && !o.rewatch {
		o.informer = true
	}
	return o, requests
}
