package main

import (
	"context"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// inform is the default mode. Its lines: synced, add, update, delete, and
// list-error or watch-error whenever the reflector has to start over.
func (c *client) inform(ctx context.Context) {
	err := c.source.SetWatchErrorHandler(func(_ *cache.Reflector, err error) {
		event := "watch-error"
		if strings.Contains(err.Error(), "failed to list") {
			event = "list-error"
		}
		line{Event: event, Resource: c.resource}.failed(err).print()
	})
	if err != nil {
		fail("config", err)
	}
	_, err = c.source.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { c.object("add", object).print() },
		UpdateFunc: func(old, object any) {
			l := c.object("update", object)
			l.OldRV = c.object("", old).RV
			l.print()
		},
		DeleteFunc: func(object any) {
			tombstone, ok := object.(cache.DeletedFinalStateUnknown)
			if ok {
				object = tombstone.Obj
			}
			l := c.object("delete", object)
			l.Tombstone = ok
			l.print()
		},
	})
	if err != nil {
		fail("config", err)
	}
	start := time.Now()
	go func() {
		if !cache.WaitForCacheSync(ctx.Done(), c.source.HasSynced) {
			return
		}
		items := len(c.source.GetStore().ListKeys())
		l := line{Event: "synced", Resource: c.resource, RV: c.source.LastSyncResourceVersion(), Items: &items}
		l.took(start, &answer{}, nil).print()
	}()
	c.source.RunWithContext(ctx)
}

// rewatch is the mode -rewatch. Its lines: watch-open (with the RV it asked
// for), add, update, delete, bookmark, watch-close and watch-error.
func (c *client) rewatch(ctx context.Context) {
	rv := c.rewatchFrom
	for ctx.Err() == nil {
		if rv == "" {
			rv, _ = c.listOnce(ctx)
		}
		if rv != "" {
			rv = c.watchOnce(ctx, rv)
		}
		sleep(ctx, c.every)
	}
}

// watchOnce watches from rv until it is time to close, and returns the RV it
// saw last; empty when a LIST must tell.
func (c *client) watchOnce(ctx context.Context, rv string) string {
	a := new(answer)
	ctx, cancel := context.WithCancel(context.WithValue(ctx, answerKey{}, a))
	defer cancel()
	// The server may close half a minute after we would have.
	seconds := int64(c.rewatchFor.Seconds()) + 30
	start := time.Now()
	stream, err := c.watch(ctx, metav1.ListOptions{
		ResourceVersion:     rv,
		AllowWatchBookmarks: true,
		TimeoutSeconds:      &seconds,
	})
	if err != nil {
		line{Event: "watch-error", Resource: c.resource, RV: rv}.took(start, a, err).print()
		return rv
	}
	defer stream.Stop()
	line{Event: "watch-open", Resource: c.resource, RV: rv}.took(start, a, nil).print()
	closing := time.After(c.rewatchFor)
	for {
		select {
		case <-ctx.Done():
			return rv
		case <-closing:
			line{Event: "watch-close", Resource: c.resource, RV: rv, Reason: "time"}.print()
			return rv
		case event, ok := <-stream.ResultChan():
			if !ok {
				line{Event: "watch-close", Resource: c.resource, RV: rv, Reason: "server"}.print()
				return rv
			}
			if rv = c.watched(event, rv); rv == "" {
				return rv
			}
		}
	}
}

var names = map[watch.EventType]string{
	watch.Added: "add", watch.Modified: "update", watch.Deleted: "delete", watch.Bookmark: "bookmark",
}

// watched prints one event and returns the RV to go on from; empty after 410.
func (c *client) watched(event watch.Event, rv string) string {
	if event.Type == watch.Error {
		err := apierrors.FromObject(event.Object)
		line{Event: "watch-error", Resource: c.resource, RV: rv}.failed(err).print()
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			return ""
		}
		return rv
	}
	l := c.object(names[event.Type], event.Object)
	l.print()
	return l.RV
}
