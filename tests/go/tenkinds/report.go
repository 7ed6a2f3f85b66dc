package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
)

// report is what the program holds, by resource.
type report struct {
	Kinds map[string]held `json:"kinds"`
}

type held struct {
	Synced bool `json:"synced"`
	// "uid resourceVersion", sorted.
	Objects []string `json:"objects"`
	// Unix milliseconds of the last event; 0 before the first.
	Changed int64 `json:"changed"`
	// Requests so far that began anew (LIST, or a watch that asks for what is
	// there already), and plain watches.
	Lists   int `json:"lists"`
	Watches int `json:"watches"`
}

func reportOf(kinds map[string]*kind, counts *requests) report {
	r := report{Kinds: make(map[string]held)}
	for resource, k := range kinds {
		h := held{Synced: k.informer.HasSynced(), Objects: []string{}, Changed: k.changed.Load()}
		h.Lists, h.Watches = counts.of(resource)
		for _, object := range k.informer.GetStore().List() {
			accessor, err := meta.Accessor(object)
			if err != nil {
				panic(err)
			}
			h.Objects = append(h.Objects, string(accessor.GetUID())+" "+accessor.GetResourceVersion())
		}
		slices.Sort(h.Objects)
		r.Kinds[resource] = h
	}
	return r
}

// serve sends a report to everybody who connects, until ctx is done.
func serve(ctx context.Context, socket string, now func() report) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		// A reader that went away is no fault of this program.
		_ = json.NewEncoder(conn).Encode(now())
		conn.Close()
	}
}

// requests counts what the informers ask, by resource, and changes nothing.
type requests struct {
	mutex   sync.Mutex
	lists   map[string]int
	watches map[string]int
}

func (r *requests) wrap(inner http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		r.count(request)
		return inner.RoundTrip(request)
	})
}

func (r *requests) count(request *http.Request) {
	// Each informer asks for a collection: its path ends with the resource.
	resource, query := path.Base(request.URL.Path), request.URL.Query()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.lists == nil {
		r.lists, r.watches = make(map[string]int), make(map[string]int)
	}
	if query.Get("watch") == "true" && query.Get("sendInitialEvents") != "true" {
		r.watches[resource]++
	} else {
		r.lists[resource]++
	}
}

func (r *requests) of(resource string) (lists, watches int) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.lists[resource], r.watches[resource]
}

type roundTripper func(*http.Request) (*http.Response, error)

func (rt roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return rt(request) }
