package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/transport"
)

// client reads one resource, whichever client of client-go that takes.
type client struct {
	options
	typed    kubernetes.Interface
	resource string
	source   cache.SharedIndexInformer
	read     func(ctx context.Context, name string) (runtime.Object, error)
	list     func(ctx context.Context) (runtime.Object, error)
	watch    func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error)
}

func newClient(typed kubernetes.Interface, untyped dynamic.Interface, o options) (*client, error) {
	c := &client{options: o, typed: typed, resource: o.resource}
	factory := informers.NewSharedInformerFactoryWithOptions(typed, 0, informers.WithNamespace(o.namespace))
	switch {
	case o.gvr.Resource != "":
		c.resource = o.gvr.GroupResource().String()
		c.source = dynamicinformer.NewFilteredDynamicSharedInformerFactory(untyped, 0, o.namespace, nil).ForResource(o.gvr).Informer()
		objects := untyped.Resource(o.gvr).Namespace(o.namespace)
		c.read = func(ctx context.Context, name string) (runtime.Object, error) {
			return objects.Get(ctx, name, metav1.GetOptions{})
		}
		c.list = func(ctx context.Context) (runtime.Object, error) {
			return objects.List(ctx, metav1.ListOptions{})
		}
		c.watch = objects.Watch
	case o.resource == "configmaps":
		c.source = factory.Core().V1().ConfigMaps().Informer()
		use(c, typed.CoreV1().ConfigMaps(o.namespace))
	case o.resource == "pods":
		c.source = factory.Core().V1().Pods().Informer()
		use(c, typed.CoreV1().Pods(o.namespace))
	default:
		return nil, fmt.Errorf("-resource %q is neither configmaps nor pods; use -gvr", o.resource)
	}
	return c, nil
}

// reader is what the typed clients of all resources have in common.
type reader[T, L runtime.Object] interface {
	Get(ctx context.Context, name string, options metav1.GetOptions) (T, error)
	List(ctx context.Context, options metav1.ListOptions) (L, error)
	Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error)
}

func use[T, L runtime.Object](c *client, objects reader[T, L]) {
	c.read = func(ctx context.Context, name string) (runtime.Object, error) {
		return objects.Get(ctx, name, metav1.GetOptions{})
	}
	c.list = func(ctx context.Context) (runtime.Object, error) {
		return objects.List(ctx, metav1.ListOptions{})
	}
	c.watch = objects.Watch
}

// object is a line about one object.
func (c *client) object(event string, object any) line {
	l := line{Event: event, Resource: c.resource}
	if accessor, err := meta.Accessor(object); err == nil {
		l.Name, l.Namespace = accessor.GetName(), accessor.GetNamespace()
		l.UID, l.RV = string(accessor.GetUID()), accessor.GetResourceVersion()
	}
	return l
}

// poll is the mode -get.
func (c *client) poll(ctx context.Context) {
	for ctx.Err() == nil {
		c.getOnce(ctx)
		c.listOnce(ctx)
		sleep(ctx, c.every)
	}
}

func (c *client) getOnce(ctx context.Context) {
	ctx, a, cancel := c.limited(ctx)
	defer cancel()
	start := time.Now()
	object, err := c.read(ctx, c.get)
	l := line{Event: "get", Resource: c.resource, Name: c.get, Namespace: c.namespace}
	if err == nil {
		l = c.object("get", object)
	}
	l.took(start, a, err).print()
}

func (c *client) listOnce(ctx context.Context) (rv string, err error) {
	ctx, a, cancel := c.limited(ctx)
	defer cancel()
	start := time.Now()
	list, err := c.list(ctx)
	l := line{Event: "list", Resource: c.resource, Namespace: c.namespace}
	if err == nil {
		items := meta.LenList(list)
		l.Items = &items
		if accessor, err := meta.ListAccessor(list); err == nil {
			l.RV = accessor.GetResourceVersion()
		}
	}
	l.took(start, a, err).print()
	return l.RV, err
}

// write is the mode -create or -delete; false when it was refused.
func (c *client) write(ctx context.Context) bool {
	ctx, a, cancel := c.limited(ctx)
	defer cancel()
	objects := c.typed.CoreV1().ConfigMaps(c.namespace)
	start := time.Now()
	if c.create != "" {
		made, err := objects.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: c.create},
			Data:       map[string]string{"made": "by a pod"},
		}, metav1.CreateOptions{})
		l := line{Event: "create", Resource: "configmaps", Name: c.create, Namespace: c.namespace}
		if err == nil {
			l = c.object("create", made)
		}
		l.took(start, a, err).print()
		return err == nil
	}
	err := objects.Delete(ctx, c.remove, metav1.DeleteOptions{})
	line{Event: "delete-call", Resource: "configmaps", Name: c.remove, Namespace: c.namespace}.took(start, a, err).print()
	return err == nil
}

func (c *client) limited(ctx context.Context) (context.Context, *answer, context.CancelFunc) {
	a := new(answer)
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, answerKey{}, a), c.timeout)
	return ctx, a, cancel
}

// answer is what the headers of the last answer to a call said.
type answer struct {
	code        int
	origin, age string
}

type answerKey struct{}

type roundTripper func(*http.Request) (*http.Response, error)

func (rt roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return rt(request) }

// recorder looks at every exchange and changes nothing.
func recorder(requests bool) transport.WrapperFunc {
	return func(inner http.RoundTripper) http.RoundTripper {
		return roundTripper(func(request *http.Request) (*http.Response, error) {
			start := time.Now()
			response, err := inner.RoundTrip(request)
			a, ok := request.Context().Value(answerKey{}).(*answer)
			if !ok {
				a = new(answer)
			}
			*a = answer{}
			if err == nil {
				*a = answer{response.StatusCode, response.Header.Get("Holdfast-Origin"), response.Header.Get("Age")}
			}
			if requests {
				line{Event: "request", Method: request.Method, URL: request.URL.RequestURI()}.took(start, a, err).print()
			}
			return response, err
		})
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
